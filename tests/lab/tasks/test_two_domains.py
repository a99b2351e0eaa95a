import re

from tutelage.lab.tasks.two_domains import MODULI, lessons, problems, slice_of


def test_every_step_is_right_modulo_its_own_domains_number():
    for problem in problems(200, seed=0):
        modulus = {"f": 5, "t": 3}[str(problem.prompt)[0]]
        for left, result in re.findall(r"(\d[-+*]\d)=(\d);", str(problem.solution)):
            assert eval(left) % modulus == int(result)
        assert slice_of(problem) == {5: "five", 3: "three"}[modulus]


def test_experts_learn_their_own_domain_and_the_student_both():
    for expert in MODULI:
        assert {slice_of(lesson) for lesson in lessons(expert, 100, seed=0)} == {expert}
    assert {slice_of(lesson) for lesson in lessons("student", 100, seed=0)} == set(MODULI)


def test_the_domains_contradict_each_other_on_most_problems():
    found = {str(problem.prompt): problem.answer for problem in problems(3000, seed=0)}
    both = [
        (found[f"f{rest}"], found[f"t{rest}"])
        for mark, rest in ((p[0], p[1:]) for p in found)
        if mark == "f" and f"t{rest}" in found
    ]
    assert len(both) > 20
    assert sum(five != three for five, three in both) / len(both) > 0.5
