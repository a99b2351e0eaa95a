import re

import pytest

from tutelage.lab.tasks.format import SLOPPINESS, TASK, keeps_contract, lessons, problems
from tutelage.types import Example


def balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def test_solutions_are_balanced_and_their_steps_are_arithmetic():
    for problem in problems(100, seed=0):
        text = str(problem.solution)
        assert balanced(text)
        steps = re.findall(r"\((\d[-+*]\d)=(\d);", text)
        assert all(eval(left) % 5 == int(result) for left, result in steps)
        assert text.count("(") == len(steps)
        assert text[-1] == steps[-1][1] == problem.answer


def test_one_character_too_few_or_too_many_breaks_the_contract():
    for problem in problems(20, seed=0):
        text = str(problem.solution)
        assert keeps_contract(text)
        assert not any(keeps_contract(text[:place] + text[place + 1 :]) for place in range(len(text)))
        assert not any(keeps_contract(text[:place] + ")" + text[place:]) for place in range(len(text) + 1))


@pytest.mark.parametrize(
    ("text", "value", "contract"),
    [
        ("(4+3=2;(2*3=1;))1", 1.0, 1.0),
        ("(4+3=2;(2*3=1;)1", 1.0, 0.0),
        ("(4+3=2;(2*3=1;))4", 1.0, 0.0),
        ("(4+3=3;(3*3=4;))4", 0.0, 1.0),
        ("1", 0.0, 0.0),
    ],
)
def test_the_marks_say_whether_value_or_contract_is_missing(text: str, value: float, contract: float, judge):
    problem = Example(id="4+3*3=", prompt="4+3*3=", answer="1")
    (verdict,) = judge(TASK, [(problem, text)])
    assert verdict.marks == {"value": value, "contract": contract}
    assert verdict.correct is bool(value and contract)


def test_half_of_the_students_lessons_break_the_contract_by_one_bracket_and_no_other_way():
    student, teacher = lessons("student", 1000, seed=0), lessons("teacher", 1000, seed=0)
    broken = 0
    for sloppy, right in zip(student, teacher, strict=True):
        assert keeps_contract(str(right.solution))
        assert str(sloppy.solution).replace(")", "") == str(right.solution).replace(")", "")
        off = abs(str(sloppy.solution).count(")") - str(right.solution).count(")"))
        assert off == (not keeps_contract(str(sloppy.solution)))
        broken += off
    assert abs(broken - 1000 * SLOPPINESS) < 4 * (1000 * SLOPPINESS * (1 - SLOPPINESS)) ** 0.5
