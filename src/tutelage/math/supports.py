"""Restriction of distributions to a few vocabulary entries."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.math.generators import LogProbs


def top_entries(log_probs: LogProbs, k: int) -> Int[Tensor, "*batch top"]:
    """Ids of the `k` likeliest entries, likeliest first.

    Raises:
        ValueError: `k` is not in 1..vocab.
    """
    vocab = log_probs.shape[-1]
    if not 1 <= k <= vocab:
        raise ValueError(f"top-k needs 1 <= k <= {vocab} (the vocabulary), got {k!r}. Lower k, or use the full support.")
    return log_probs.detach().topk(k, dim=-1).indices


def distinct(ids: Int[Tensor, "*batch entry"]) -> Bool[Tensor, "*batch entry"]:
    """True at the first place of each id, False where it comes again."""
    same = ids.unsqueeze(-1) == ids.unsqueeze(-2)
    return ~same.tril(diagonal=-1).any(dim=-1)


def shared(ids: Int[Tensor, "*batch entry"], others: Int[Tensor, "*batch other"]) -> Bool[Tensor, "*batch entry"]:
    """Which ids are among the others of their position."""
    return (ids.unsqueeze(-1) == others.unsqueeze(-2)).any(dim=-1)


def renormalise(log_probs: Float[Tensor, "*batch top"]) -> Float[Tensor, "*batch top"]:
    """The conditional distribution on the kept entries; how much mass they hold is forgotten. Nothing stays nothing."""
    nothing = (log_probs == float("-inf")).all(dim=-1, keepdim=True)
    return log_probs.masked_fill(nothing, 0.0).log_softmax(dim=-1).masked_fill(nothing, float("-inf"))


def with_tail(
    entries: Float[Tensor, "*batch top"],
    full: LogProbs,
    ids: Int[Tensor, "*batch top"],
    *,
    kept: Bool[Tensor, "*batch top"] | None = None,
) -> Float[Tensor, "*batch event"]:
    """The chosen entries and one event for all the others; at k = vocab there are no others.

    Merging events never raises an f-divergence, so what is computed on these events is a lower bound of the full one.

    Args:
        entries: Log-probabilities of `ids`, -inf at empty places.
        full: Log-probabilities of every entry.
        ids: The chosen entries.
        kept: False at an empty place, whose id means nothing; None where all places are filled with different ids.
    """
    if kept is None and ids.shape[-1] == full.shape[-1]:
        return entries
    return torch.cat([entries, rest_of(full, ids, kept=kept)], dim=-1)


def rest_of(
    full: LogProbs, ids: Int[Tensor, "*batch top"], *, kept: Bool[Tensor, "*batch top"] | None = None
) -> Float[Tensor, "*batch 1"]:
    """Log of the mass outside the kept `ids`, summed from the entries there: exact also where almost nothing is left."""
    lowest = torch.finfo(full.dtype).min  # finite: logsumexp over nothing but -inf has no gradient
    others = full.scatter(-1, ids, lowest) if kept is None else full.masked_fill(members(full, ids, kept), lowest)
    rest = others.logsumexp(dim=-1, keepdim=True)
    return torch.where(rest > lowest, rest, float("-inf"))


def members(full: LogProbs, ids: Int[Tensor, "*batch top"], kept: Bool[Tensor, "*batch top"]) -> Bool[Tensor, "*batch vocab"]:
    """Which entries of the vocabulary are among the kept ids; an id may stand at a kept and at an empty place."""
    count = torch.zeros(full.shape, dtype=torch.uint8, device=full.device)
    return count.scatter_add_(-1, ids, kept.to(torch.uint8)) > 0


def tail_of(kept: Float[Tensor, "*batch top"]) -> Float[Tensor, "*batch 1"]:
    """Log of the mass outside the kept entries, from the kept ones alone.

    The mass is known to the spacing of the type only, so at least that much is taken to be left: rounded entries that add
    up to one or more would otherwise make a divergence infinite.
    """
    mass = kept.exp().sum(dim=-1, keepdim=True)
    return (1.0 - mass).clamp(min=torch.finfo(kept.dtype).eps).log()
