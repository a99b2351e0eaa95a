"""How per-row values become one number: coefficients with global denominators, so that splitting a step changes nothing."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Total = Callable[[Float[Tensor, "1"]], Float[Tensor, "1"]]
"""Sums a count over all processes; the identity where there is one."""


def token_mean(mask: Bool[Tensor, " row"], *, total: Total) -> Float[Tensor, " row"]:
    """Coefficients that average over all rows of the mask, over all processes. Zero everywhere if there are none."""
    kept = mask.to(torch.float64)
    return kept / total(kept.sum().reshape(1)).clamp(min=1.0)


def sequence_mean(mask: Bool[Tensor, " row"], rollout: Int[Tensor, " row"], *, total: Total) -> Float[Tensor, " row"]:
    """Coefficients that average within each rollout first and then over rollouts that have any row in the mask."""
    lengths = _lengths(mask, rollout)
    return mask.to(torch.float64) / (lengths.clamp(min=1.0)[rollout] * _present(lengths, total))


def constant(
    mask: Bool[Tensor, " row"], rollout: Int[Tensor, " row"], *, divisor: float, total: Total
) -> Float[Tensor, " row"]:
    """Coefficients that sum within each rollout, divided by a constant and by the number of rollouts with any row in the mask.

    Length-neutral in gradient: a longer response weighs in proportion to its tokens, whatever the others' lengths.
    """
    return mask.to(torch.float64) / (divisor * _present(_lengths(mask, rollout), total))


def _lengths(mask: Bool[Tensor, " row"], rollout: Int[Tensor, " row"]) -> Float[Tensor, " rollout"]:
    num_rollouts = int(rollout.max()) + 1 if len(rollout) else 0
    lengths = torch.zeros(num_rollouts, dtype=torch.float64, device=mask.device)
    return lengths.index_add_(0, rollout, mask.to(torch.float64))


def _present(lengths: Float[Tensor, " rollout"], total: Total) -> Float[Tensor, "1"]:
    return total((lengths > 0).sum().to(torch.float64).reshape(1)).clamp(min=1.0)
