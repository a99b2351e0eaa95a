"""From one reward per token to what a token is worth, given what follows it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.types import StepBatch


def return_to_go(
    rewards: Float[Tensor, " row"],
    batch: StepBatch,
    mask: Bool[Tensor, " row"],
    *,
    discount: float,
    length_normalised: bool = False,
) -> Float[Tensor, " row"]:
    """`sum_{i >= t} discount^(i - t) r_i` over the masked tokens of each rollout, in the unit of the rewards.

    The exponent counts from the token itself. Counting from the start of the response, as some public code does, makes
    early tokens count for more and the last ones for nothing.

    Args:
        rewards: One per row.
        batch: The rows; those of one rollout lie in the order of time.
        mask: Tokens that take part; the others get zero and their rewards do not count.
        discount: In [0, 1]; 0 leaves the reward of the token itself, 1 the undiscounted sum.
        length_normalised: Divide by `sum_{i >= t} discount^(i - t)`: a weighted mean of what follows.

    Reference: the long part of MiniLLM's gradient, arXiv:2306.08543, section 2.2; `kl_discount_factor` of Thinking
    Machines' OPD (2025-10).
    """
    rows = mask.nonzero().squeeze(-1)
    if not len(rows):
        return torch.zeros_like(rewards)
    rollout = batch.rollout[rows]
    lengths = torch.bincount(rollout)
    place = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths)[rollout]
    table = rewards.new_zeros(len(lengths), int(lengths.max()), 2)
    table[rollout, place, 0], table[rollout, place, 1] = rewards[rows], 1.0
    for time in range(table.shape[1] - 2, -1, -1):
        table[:, time] += discount * table[:, time + 1]
    returns, weights = table[rollout, place].unbind(-1)
    return torch.zeros_like(rewards).index_copy_(0, rows, returns / weights if length_normalised else returns)
