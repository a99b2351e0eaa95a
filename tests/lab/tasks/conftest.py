"""Verdicts of a task on given texts."""

from collections.abc import Callable, Sequence

import pytest
import torch

from tutelage.lab.tasks import Task
from tutelage.types import Author, Example, Rollout, Verdict
from tutelage.verifiers import build


def respond(example: Example, text: str) -> Rollout:
    """A rollout as a verifier sees it."""
    return Rollout(
        example=example,
        group=0,
        prompt_ids=torch.zeros(1, dtype=torch.long),
        response_ids=torch.zeros(1, dtype=torch.long),
        authors=torch.tensor([int(Author.STUDENT)]),
        behaviour_log_probs=torch.zeros(1),
        finish="stop",
        text=text,
    )


@pytest.fixture
def judge() -> Callable[[Task, Sequence[tuple[Example, str]]], list[Verdict]]:
    def judge(task: Task, pairs: Sequence[tuple[Example, str]]) -> list[Verdict]:
        return build(task.verifier).judge([respond(example, text) for example, text in pairs])

    return judge
