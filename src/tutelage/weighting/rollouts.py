"""Sums and means over the rows of each rollout."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.types import StepBatch


def rollout_means(
    values: Float[Tensor, " row"], batch: StepBatch, mask: Bool[Tensor, " row"]
) -> tuple[Float[Tensor, " rollout"], Bool[Tensor, " rollout"]]:
    """Mean of the masked rows of each rollout in float64, zero where it has none, and which rollouts have any."""
    totals = torch.zeros(len(batch.rollouts), 2, dtype=torch.float64, device=values.device)
    found = torch.stack([values[mask].double(), torch.ones_like(values[mask], dtype=torch.float64)], dim=-1)
    totals.index_add_(0, batch.rollout[mask], found)
    return totals[:, 0] / totals[:, 1].clamp(min=1.0), totals[:, 1] > 0.0
