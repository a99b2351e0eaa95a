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


def test_a_long_response_ends_where_python_says():
    for problem in long.problems(50, seed=0):
        start, terms = str(problem.prompt).removesuffix("=").split(":")
        assert int(str(problem.answer)) == (int(start) + len(long.COUNTERS) * sum(map(int, terms))) % 10


def test_every_cycle_adds_the_same_digits_to_the_value_before():
    for problem in long.problems(20, seed=0):
        start, terms = str(problem.prompt).removesuffix("=").split(":")
        value, cycles = int(start), re.findall(r"[a-zA-Z](\d+)", str(problem.solution))
        assert len(cycles) == len(long.COUNTERS)
        for cycle in cycles:
            assert cycle[::2] == terms
            for term, result in zip(cycle[::2], cycle[1::2], strict=True):
                value = (value + int(term)) % 10
                assert value == int(result)


def test_a_long_response_is_ten_times_a_chain():
    longest = max(len(str(problem.solution)) for problem in chain.problems(300, seed=0))
    assert 9.0 < len(str(long.problems(1, seed=0)[0].solution)) / longest < 11.0


def test_a_response_that_stops_early_is_wrong_even_if_its_last_digit_is_right(judge):
    for problem in long.problems(30, seed=0):
        text = str(problem.solution)
        stopped = [text[: place + 1] for place in range(len(text) - long.CYCLE_TOKENS) if text[place] == problem.answer]
        assert not any(verdict.correct for verdict in judge(long.TASK, [(problem, short) for short in stopped]))
