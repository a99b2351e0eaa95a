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
) -> Float[Tensor, "*batch top_and_rest"]:
    """The kept entries and one for all others. Merging events never raises an f-divergence; at k = vocab none is merged."""
    chosen = torch.zeros_like(full, dtype=torch.bool).scatter(-1, ids, True)
    if ids.shape[-1] == full.shape[-1]:
        return kept
    rest = full.masked_fill(chosen, float("-inf")).logsumexp(dim=-1, keepdim=True)
    return torch.cat([kept, rest], dim=-1)


def tail_of(kept: Float[Tensor, "*batch top"]) -> Float[Tensor, "*batch 1"]:
    """Log of the mass outside the kept entries, from the kept ones alone; -inf where they hold all of it."""
    mass = kept.exp().sum(dim=-1, keepdim=True).clamp(max=1.0)
    return torch.log1p(-mass)
