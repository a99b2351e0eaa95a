"""What is subtracted from advantages so that their gradient varies less."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.types import Gather, StepBatch


def batch_mean(values: Float[Tensor, " row"], mask: Bool[Tensor, " row"], *, gather: Gather) -> Float[Tensor, " row"]:
    """The mean over all masked tokens of the step, over all processes.

    A token's own value is part of it, so the gradient is biased by a factor of about `1 - 1 / tokens`.
    """
    own = torch.stack([values[mask].sum(), mask.sum().to(values.dtype)])
    total, count = gather(own).reshape(-1, 2).sum(dim=0)
    return (total / count.clamp(min=1.0)).expand_as(values)


def leave_one_out(values: Float[Tensor, " row"], batch: StepBatch, mask: Bool[Tensor, " row"]) -> Float[Tensor, " row"]:
    """The mean over the masked tokens of the other rollouts of the same prompt; zero where there is no other.

    Rollouts of one prompt are drawn independently, so the gradient stays unbiased.

    Reference: RLOO, arXiv:2402.14740, with tokens in place of whole responses.
    """
    count = len(batch.rollouts)
    group = torch.tensor([rollout.group for rollout in batch.rollouts], device=values.device)
    _, place = group.unique(return_inverse=True)
    totals = values.new_zeros(count, 2)
    totals.index_add_(0, batch.rollout[mask], torch.stack([values[mask], torch.ones_like(values[mask])], dim=-1))
    of_group = torch.zeros_like(totals).index_add_(0, place, totals)[place]
    others = of_group - totals
    return (others[:, 0] / others[:, 1].clamp(min=1.0))[batch.rollout]
