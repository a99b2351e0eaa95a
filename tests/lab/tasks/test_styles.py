"""The tasks `mismatch` and `long`: the chain in another style, and the chain at length."""

import re

import pytest

from tutelage.lab.tasks import chain, long, mismatch


def test_the_teachers_style_says_the_same_steps_with_the_result_first():
    assert mismatch.result_first("4+7*3-8=") == "1=4+7;3=1*3;5=3-8;"
    for problem in chain.problems(50, seed=0):
        turned = re.sub(r"(\d)=(\d[-+*]\d);", r"\2=\1;", mismatch.result_first(str(problem.prompt)))
        assert turned == problem.solution


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("4+7=1;1*3=3;3-8=5;", True),
        ("1=4+7;3=1*3;5=3-8;", True),
        ("4+7=1;3=1*3;3-8=5;", True),  # the last value counts, whatever was written before it
        ("1=4+7;3=1*3;4=3-8;", False),
        ("4+7=1;1*3=3;3-8=4;", False),
        ("1=4+7;3=1*3;5=3-8", False),
        ("5;", False),
        ("", False),
    ],
)
def test_both_styles_are_right_for_the_verifier(text: str, correct: bool, judge):
    assert judge(mismatch.TASK, [(chain.example("4+7*3-8="), text)])[0].correct is correct


def test_each_role_has_its_own_style_and_the_same_problems():
    teacher, student = (mismatch.lessons(role, 30, seed=0) for role in ("teacher", "student"))
    assert [lesson.prompt for lesson in teacher] == [lesson.prompt for lesson in student]
    assert all(re.fullmatch(r"(\d=\d[-+*]\d;)+", str(lesson.solution)) for lesson in teacher)
    assert all(re.fullmatch(r"(\d[-+*]\d=\d;)+", str(lesson.solution)) for lesson in student)


def test_every_digit_of_a_table_is_the_sum_of_the_one_above_and_the_one_before():
    for problem in long.problems(20, seed=0):
        digits = [int(digit) for digit in re.sub(r"\D", "", str(problem.prompt) + str(problem.solution))]
        assert len(digits) == long.WIDTH * (1 + len(long.ROWS))
        for place in range(long.WIDTH, len(digits)):
            before = digits[place - 1] if place % long.WIDTH else 0  # a row's first digit is the one above it
            assert digits[place] == (digits[place - long.WIDTH] + before) % 3
        assert problem.answer == "".join(map(str, digits[-long.WIDTH :]))


def test_no_row_of_a_table_returns_within_its_first_26_unless_it_begins_with_zero():
    for problem in long.problems(100, seed=0):
        rows = [str(problem.prompt)[1:], *re.split(r"[a-zA-Z]", str(problem.solution))[1:]]
        if rows[0][0] != "0":
            assert len(set(rows[:27])) == 27
            assert rows[27] == rows[0]


def test_two_tables_that_differ_in_one_digit_end_differently():
    for problem in long.problems(20, seed=0):
        prompt = str(problem.prompt)
        other = prompt[:-1] + str((int(prompt[-1]) + 1) % 3)
        assert long.solve(other)[-long.WIDTH :] != problem.answer


def test_a_long_response_is_ten_times_a_chain():
    longest = max(len(str(problem.solution)) for problem in chain.problems(300, seed=0))
    assert 9.0 < len(str(long.problems(1, seed=0)[0].solution)) / longest < 11.0


def test_a_response_that_stops_early_is_wrong(judge):
    for problem in long.problems(5, seed=0):
        text = str(problem.solution)
        assert not any(verdict.correct for verdict in judge(long.TASK, [(problem, text[:end]) for end in range(len(text))]))
