"""How per-row values become one number: coefficients with global denominators, so that splitting a step changes nothing."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Total = Callable[[Float[Tensor, " count"]], Float[Tensor, " count"]]
"""Sums a count over all processes; the identity where there is one."""


def token_mean(mask: Bool[Tensor, " row"], *, total: Total) -> Float[Tensor, " row"]:
    """Coefficients that average over all rows of the mask, over all processes. Zero everywhere if there are none."""
    kept = mask.to(torch.float64)
    return kept / total(kept.sum().reshape(1)).clamp(min=1.0)


def sequence_mean(mask: Bool[Tensor, " row"], rollout: Int[Tensor, " row"], *, total: Total) -> Float[Tensor, " row"]:
    """Coefficients that average within each rollout first and then over rollouts that have any row in the mask."""
    kept = mask.to(torch.float64)
    num_rollouts = int(rollout.max()) + 1 if len(rollout) else 0
    lengths = torch.zeros(num_rollouts, dtype=torch.float64, device=kept.device).index_add_(0, rollout, kept)
    present = total((lengths > 0).sum().to(torch.float64).reshape(1)).clamp(min=1.0)
    return kept / (lengths.clamp(min=1.0)[rollout] * present)


def constant(mask: Bool[Tensor, " row"], *, divisor: float, num_rollouts: int, total: Total) -> Float[Tensor, " row"]:
    """Coefficients that sum within each rollout, divided by a constant and by the number of rollouts.

    Length-neutral in gradient: a longer response weighs in proportion to its tokens, whatever the others' lengths.
    """
    rollouts = total(torch.tensor([float(num_rollouts)], dtype=torch.float64, device=mask.device)).clamp(min=1.0)
    return mask.to(torch.float64) / (divisor * rollouts)
