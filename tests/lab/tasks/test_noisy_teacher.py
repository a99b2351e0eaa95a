import re
from itertools import pairwise
from math import sqrt

from tutelage.lab.tasks.noisy_teacher import NOISE, RELIABLE, UNRELIABLE, lessons, problems, slice_of, unreliable

STEP = re.compile(r"(\d[-+*]\d)=(\d);")


def wrong(text: str) -> list[tuple[str, bool]]:
    """Each step's operator, and whether Python's arithmetic says that its result is wrong."""
    return [(left[1], eval(left) % 10 != int(result)) for left, result in STEP.findall(text)]


def test_the_teachers_sums_are_wrong_as_often_as_said_and_everything_else_is_right():
    steps = [step for lesson in lessons("teacher", 2000, seed=0) for step in wrong(str(lesson.solution))]
    sums = [is_wrong for operator, is_wrong in steps if operator == "+"]
    expected = NOISE * 0.9  # a random digit is the right one once in ten
    assert abs(sum(sums) / len(sums) - expected) < 4 * sqrt(expected * (1 - expected) / len(sums))
    assert not any(is_wrong for operator, is_wrong in steps if operator != "+")


def test_later_steps_go_on_from_the_value_that_was_written():
    for lesson in lessons("teacher", 200, seed=0):
        found = STEP.findall(str(lesson.solution))
        assert all(after[0][0] == before[1] for before, after in pairwise(found))


def test_the_students_lessons_are_right_and_have_more_additions():
    student, teacher = (
        [step for lesson in lessons(role, 500, seed=0) for step in wrong(str(lesson.solution))]
        for role in ("student", "teacher")
    )
    assert not any(is_wrong for _, is_wrong in student)
    assert sum(operator == "+" for operator, _ in student) / len(student) > 0.7
    assert sum(operator == "+" for operator, _ in teacher) / len(teacher) < 0.35


def test_unreliable_characters_are_the_results_of_additions():
    assert [place for place, marked in enumerate(unreliable("4+7=1;1*8=8;8+3=1;")) if marked] == [4, 16]
    assert not any(unreliable("4*7=8;8+3="))
    for lesson in lessons("teacher", 50, seed=0):
        text = str(lesson.solution)
        assert sum(unreliable(text)) == text.count("+")
        assert len(unreliable(text)) == len(text)


def test_a_problem_without_additions_is_reliable():
    for problem in problems(50, seed=0):
        assert slice_of(problem) == (UNRELIABLE if "+" in problem.prompt else RELIABLE)
