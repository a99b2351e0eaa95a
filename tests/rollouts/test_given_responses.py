"""Responses of the data set as training text: how they end."""

import pytest
import torch

from tutelage.rollouts import Prompt, Text, given_responses
from tutelage.types import Example

END = 99


def digits(text: str) -> list[int]:
    return [*map(int, text), END]


TEXT = Text(decode=lambda ids: "".join(map(str, ids)), encode_response=digits)


def given(response: str, *, max_tokens: int = 10, column="response", **fields):
    example = Example(id="a", prompt="1", response=response, solution=response, **fields)
    prompt = Prompt(example=example, token_ids=torch.tensor([1]))
    (rollout,) = given_responses([prompt], text=TEXT, column=column, max_tokens=max_tokens)
    return rollout.response_ids.tolist(), rollout.finish


@pytest.mark.parametrize("fields", [{}, {"finish_reason": "stop"}])
def test_a_response_that_its_writer_ended_has_an_end_of_sequence(fields):
    assert given("234", **fields) == ([2, 3, 4, END], "stop")


def test_a_response_that_its_writer_did_not_end_has_none():
    assert given("234", finish_reason="length") == ([2, 3, 4], "length")


@pytest.mark.parametrize(("max_tokens", "kept"), [(2, [2, 3]), (3, [2, 3, 4])])
def test_a_response_that_is_cut_here_has_none_either(max_tokens, kept):
    assert given("234", max_tokens=max_tokens) == (kept, "length")
    assert given("234", max_tokens=max_tokens, finish_reason="length") == (kept, "length")


def test_the_column_speaks_of_the_response_and_not_of_the_solution():
    assert given("234", column="solution", finish_reason="length") == ([2, 3, 4, END], "stop")
