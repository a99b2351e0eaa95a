"""Rollouts and prompts from the little that an evaluation reads of them."""

from collections.abc import Callable

import pytest
import torch

from tutelage.rollouts.sample import Prompt
from tutelage.types import Author, Example, Rollout


@pytest.fixture
def prompt() -> Callable[..., Prompt]:
    def make(number: int, **columns) -> Prompt:
        return Prompt(example=Example(id=f"row-{number}", prompt="?", **columns), token_ids=torch.tensor([number]))

    return make


@pytest.fixture
def rollout() -> Callable[..., Rollout]:
    def make(group: int, ids, *, finish="stop") -> Rollout:
        return Rollout(
            example=Example(id=f"row-{group}", prompt="?"),
            group=group,
            prompt_ids=torch.tensor([group]),
            response_ids=torch.tensor(ids),
            authors=torch.full((len(ids),), int(Author.STUDENT)),
            behaviour_log_probs=torch.zeros(len(ids)),
            finish=finish,
            text=" ".join(map(str, ids)),
        )

    return make
