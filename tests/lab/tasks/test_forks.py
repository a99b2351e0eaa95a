from collections import Counter
from itertools import permutations, product
from math import factorial

from tutelage.lab.tasks.forks import NUM_TERMS, TASK, at_forks, lessons, problems, right_responses


def by_hand(prompt: str) -> set[str]:
    """All right responses, written with Python's own arithmetic."""
    found = set()
    for order in permutations(prompt[2:-1]):
        value, text = prompt[0], ""
        for term in order:
            result = str(eval(f"{value}+{term}") % 5)
            text, value = f"{text}{value}+{term}={result};", result
        found.add(text)
    return found


def test_every_order_is_right_and_all_are_different():
    for problem in problems(20, seed=0):
        assert right_responses(str(problem.prompt)) == by_hand(str(problem.prompt))
        assert len(by_hand(str(problem.prompt))) == factorial(NUM_TERMS)


def test_the_verifier_takes_right_responses_and_nothing_near_them(judge):
    problem = problems(1, seed=0)[0]
    right = by_hand(str(problem.prompt))
    near = {
        text[:place] + other + text[place + 1 :]
        for text, place, other in product(sorted(right)[:4], range(6 * NUM_TERMS), "0123456789;=")
    }
    near |= {text + text[-6:] for text in right} | {text[:-6] for text in right}
    verdicts = judge(TASK, [(problem, text) for text in sorted(near | right)])
    assert {text for text, verdict in zip(sorted(near | right), verdicts, strict=True) if verdict.correct} == right


def test_the_teacher_has_seen_every_order_and_the_student_one():
    def orders(role: str) -> Counter[tuple[int, ...]]:
        return Counter(
            tuple(str(lesson.prompt)[2:-1].index(term) for term in str(lesson.solution)[2::6])
            for lesson in lessons(role, 2400, seed=0)
        )

    teacher, student = orders("teacher"), orders("student")
    assert len(teacher) == factorial(NUM_TERMS)
    assert all(abs(count - 100) < 5 * 100**0.5 for count in teacher.values())  # 2400 draws of 24, to five deviations
    assert set(student) == {tuple(range(NUM_TERMS))}


def test_forks_are_the_terms_of_which_there_was_a_choice():
    assert "".join("x" if fork else "." for fork in at_forks("4+8=2;2+3=0;0+7=2;2+5=2;")) == "..x.....x.....x........."
    assert sum(at_forks("4+8=2;2+3")) == 1
