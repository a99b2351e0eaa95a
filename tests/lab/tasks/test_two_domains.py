import re

from tutelage.lab.tasks.two_domains import MODULI, lessons, problems, slice_of


def test_every_step_is_right_modulo_its_own_domains_number():
    for problem in problems(200, seed=0):
        modulus = {"t": 10, "s": 7}[str(problem.prompt)[0]]
        for left, result in re.findall(r"(\d[-+*]\d)=(\d);", str(problem.solution)):
            assert eval(left) % modulus == int(result)
        assert slice_of(problem) == {10: "ten", 7: "seven"}[modulus]


def test_experts_learn_their_own_domain_and_the_student_both():
    for expert in MODULI:
        assert {slice_of(lesson) for lesson in lessons(expert, 100, seed=0)} == {expert}
    assert {slice_of(lesson) for lesson in lessons("student", 100, seed=0)} == set(MODULI)


def test_the_domains_contradict_each_other_on_most_problems():
    found = {str(problem.prompt): problem.answer for problem in problems(3000, seed=0)}
    both = [
        (found[f"t{rest}"], found[f"s{rest}"])
        for mark, rest in ((p[0], p[1:]) for p in found)
        if mark == "t" and f"s{rest}" in found
    ]
    assert len(both) > 20
    assert sum(ten != seven for ten, seven in both) / len(both) > 0.5
