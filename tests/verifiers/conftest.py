"""A rollout from what a verifier reads of it."""

from collections.abc import Callable

import pytest
import torch

from tutelage.types import Author, Example, Rollout


@pytest.fixture
def rollout() -> Callable[..., Rollout]:
    def make(text: str, *, prompt="question", ids=(5, 6, 7), policy_step=0, identity="row-1", **columns) -> Rollout:
        return Rollout(
            example=Example(id=identity, prompt=prompt, **columns),
            group=0,
            prompt_ids=torch.tensor([1, 2]),
            response_ids=torch.tensor(ids),
            authors=torch.full((len(ids),), int(Author.STUDENT)),
            behaviour_log_probs=torch.zeros(len(ids)),
            finish="stop",
            text=text,
            policy_step=policy_step,
        )

    return make
