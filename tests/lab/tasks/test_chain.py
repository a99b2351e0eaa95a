import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import split_of
from tutelage.lab.tasks.chain import CHARACTERS, MAX_RESPONSE_TOKENS, NUM_OPERANDS, problems, solve


def test_the_example_of_the_documentation():
    assert solve("4+7*3-8=") == "4+7=1;1*3=3;3-8=5;"


@given(st.integers(0, 9), st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 9)), min_size=2, max_size=5))
def test_the_last_value_is_that_of_the_bracketed_expression_modulo_ten(first: int, rest: list[tuple[str, int]]):
    # Reduction modulo 10 commutes with + - *, so Python's own arithmetic on whole numbers is the reference.
    expression = "(" * len(rest) + str(first) + "".join(f"{operator}{operand})" for operator, operand in rest)
    prompt = f"{first}" + "".join(f"{operator}{operand}" for operator, operand in rest) + "="
    solution = solve(prompt)
    assert int(solution[-2]) == eval(expression) % 10
    assert len(solution) == 6 * len(rest) <= MAX_RESPONSE_TOKENS - 1
    for step in solution.split(";")[:-1]:
        left, right = step.split("=")
        assert eval(left) % 10 == int(right)


def test_problems_are_different_repeatable_and_a_larger_call_only_appends():
    few, many = problems(50, seed=3), problems(300, seed=3)
    assert few == many[:50]
    assert len({example.prompt for example in many}) == 300
    assert problems(50, seed=4) != few


def test_splits_share_no_problem_and_one_in_eight_is_held_out():
    train, held_out = problems(3000, seed=0), problems(400, seed=0, split="held_out")
    assert not {example.prompt for example in train} & {example.prompt for example in held_out}
    share = sum(split_of(f"{a}+{b}*{c}=") == "held_out" for a in range(10) for b in range(10) for c in range(10)) / 1000
    assert abs(share - 1 / 8) < 4 * (7 / 64 / 1000) ** 0.5  # four standard deviations of a fair draw


def test_lengths_cover_the_range_and_use_the_alphabet_only():
    drawn = problems(400, seed=0)
    assert {len(re.findall(r"\d", example.prompt)) for example in drawn} == set(range(NUM_OPERANDS[0], NUM_OPERANDS[1] + 1))
    assert {character for example in drawn for character in example.prompt + example.solution} == set(CHARACTERS)


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("4+7=1;1*3=3;3-8=5;", True),
        ("4+7=2;2*3=6;6-8=5;", True),  # the last value counts, whatever was written before it
        ("4+7=1;1*3=3;3-8=4;", False),
        ("4+7=1;1*3=3;3-8=5", False),
        ("4+7=1;1*3=3;3-8=5;1", False),
        ("", False),
    ],
)
def test_the_verifier_reads_the_last_value(text: str, correct: bool, judge):
    assert judge(chain.TASK, [(chain.example("4+7*3-8="), text)])[0].correct is correct
