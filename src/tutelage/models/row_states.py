"""Hidden states that predict the rows of a step: the one way from rollouts to what the fused head reads.

Student and teacher both go through here, so both see the same response ids and differ in the prompt only.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.types import StepBatch

_BUSY_TOKENS = 512
"""Padded tokens from which on a forward's time is in proportion to its tokens, on two CPU cores."""
_PADDING = 0.05
"""Share of a larger group that may be padding."""


@runtime_checkable
class Backbone(Protocol):
    """A language model without its head."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        ...

    def hidden_states(
        self,
        input_ids: Int[Tensor, "rollout time"],
        attention_mask: Int[Tensor, "rollout time"],
        position_ids: Int[Tensor, "rollout time"],
    ) -> Float[Tensor, "rollout time width"]:
        """Last hidden states, after the final norm."""
        ...


def microbatches(lengths: Sequence[int], *, budget_tokens: int) -> list[list[int]]:
    """Indices grouped by similar length, so that each group padded to its longest member stays within the budget.

    A group that is large enough to keep a processor busy also stops growing where padding would take more than a twentieth of
    it: beyond that size, another forward costs less than the padding.

    Args:
        lengths: Tokens of each sequence.
        budget_tokens: Bound on `len(group) * max(length)`; a single longer sequence gets a group of its own.

    Returns:
        Groups, longest first, each in ascending order of index. Every index appears once.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and _takes(groups[-1], index, lengths, budget_tokens):
            groups[-1].append(index)
        else:
            groups.append([index])
    return [sorted(group) for group in groups]


def _takes(group: list[int], index: int, lengths: Sequence[int], budget_tokens: int) -> bool:
    padded = (len(group) + 1) * lengths[group[0]]
    real = sum(lengths[member] for member in group) + lengths[index]
    return padded <= budget_tokens and (padded <= _BUSY_TOKENS or real >= (1.0 - _PADDING) * padded)


def row_states(
    model: Backbone, batch: StepBatch, chosen: Sequence[int], *, prompts: Sequence[Int[Tensor, " _"]]
) -> Float[Tensor, "row width"]:
    """Hidden states for the rows of some rollouts, in the order of `batch.rows_of(chosen)`.

    Args:
        model: Student or teacher. Gradients flow if they are enabled.
        batch: The step.
        chosen: Indices of rollouts, ascending.
        prompts: The prompt ids that this model reads, one per chosen rollout; they may differ from the rollout's own.

    Returns:
        The state one position before each row's token, which is the one that predicts it.
    """
    responses = [batch.rollouts[index].response_ids for index in chosen]
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    ids = torch.zeros(len(chosen), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, response, length) in enumerate(zip(prompts, responses, lengths, strict=True)):
        ids[row, :length] = torch.cat([prompt, response])
        mask[row, :length] = 1
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    states = model.hidden_states(ids.to(model.device), mask.to(model.device), positions.to(model.device))
    rows = batch.rows_of(chosen)
    place = torch.full((len(batch.rollouts),), -1)
    place[list(chosen)] = torch.arange(len(chosen))
    before = torch.tensor([len(prompt) - 1 for prompt in prompts])
    slot = place[batch.rollout[rows].cpu()]
    return states[slot.to(model.device), (before[slot] + batch.position[rows].cpu()).to(model.device)]
