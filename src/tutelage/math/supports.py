"""Restriction of distributions to a few vocabulary entries."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.math.divergences import LogProbs


def top_entries(log_probs: LogProbs, k: int) -> Int[Tensor, "*batch top"]:
    """Ids of the `k` likeliest entries, likeliest first.

    Raises:
        ValueError: `k` is not in 1..vocab.
    """
    vocab = log_probs.shape[-1]
    if not 1 <= k <= vocab:
        raise ValueError(f"top-k needs 1 <= k <= {vocab} (the vocabulary), got {k!r}. Lower k, or use the full support.")
    return log_probs.detach().topk(k, dim=-1).indices


def renormalise(log_probs: Float[Tensor, "*batch top"]) -> Float[Tensor, "*batch top"]:
    """The conditional distribution on the kept entries; how much mass they hold is forgotten."""
    return log_probs.log_softmax(dim=-1)


def with_tail(
    kept: Float[Tensor, "*batch top"], full: LogProbs, ids: Int[Tensor, "*batch top"]
) -> Float[Tensor, "*batch event"]:
    """The kept entries and one event for all the others; at k = vocab there are no others.

    Merging events never raises an f-divergence, so what is computed on these events is a lower bound of the full one.
    """
    if ids.shape[-1] == full.shape[-1]:
        return kept
    return torch.cat([kept, rest_of(full, ids)], dim=-1)


def rest_of(full: LogProbs, ids: Int[Tensor, "*batch top"]) -> Float[Tensor, "*batch 1"]:
    """Log of the mass outside `ids`, summed from the entries there: exact also where almost nothing is left."""
    lowest = torch.finfo(full.dtype).min  # finite: logsumexp over nothing but -inf has no gradient
    rest = full.scatter(-1, ids, lowest).logsumexp(dim=-1, keepdim=True)
    return torch.where(rest > lowest, rest, float("-inf"))


def tail_of(kept: Float[Tensor, "*batch top"]) -> Float[Tensor, "*batch 1"]:
    """Log of the mass outside the kept entries, from the kept ones alone.

    The mass is known to the spacing of the type only, so at least that much is taken to be left: rounded entries that add
    up to one or more would otherwise make a divergence infinite.
    """
    mass = kept.exp().sum(dim=-1, keepdim=True)
    return (1.0 - mass).clamp(min=torch.finfo(kept.dtype).eps).log()
