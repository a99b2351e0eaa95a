"""How far a divergence on a teacher's likeliest entries can be from the whole one: bounds without any assumption.

A server that gives a few entries says two things about all the others: how much mass they have together, and that none of them
has more than the last one given. The student's own probabilities are all known.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.math.supports import rest_of, tail_of

LogProbs = Float[Tensor, "*batch vocab"]
Nats = Float[Tensor, "*batch"]


class Bounds(NamedTuple):
    """In nats per position."""

    lower: Tensor
    upper: Tensor


def forward_kl_bounds(
    student: LogProbs, top_ids: Int[Tensor, "*batch top"], top_log_probs: Float[Tensor, "*batch top"]
) -> Bounds:
    r"""The smallest and the largest KL(pi_T || pi_S) of a teacher with these likeliest entries.

    With tail mass $\tau$ of the teacher and $\sigma$ of the student, the tail adds at least $\tau \log(\tau / \sigma)$ (log-sum
    inequality), reached where it is proportional to the student's. It is convex in the teacher's probabilities
    $0 \le t_v \le m$ with sum $\tau$, so its maximum lies at a corner: as many entries as fit have $m$, one has the rest, all
    others nothing, and they are those that the student gives least. The reverse KL has no such upper bound: a teacher may give
    an entry nothing at all.

    Args:
        student: Log-probabilities of every entry.
        top_ids: The teacher's likeliest entries.
        top_log_probs: Their log-probabilities, the last one the smallest.
    """
    own = student.gather(-1, top_ids)
    kept = (top_log_probs.exp() * (top_log_probs - own)).sum(dim=-1)
    others = student.shape[-1] - top_ids.shape[-1]
    if others == 0:
        return Bounds(kept, kept)
    log_mass, log_most = tail_of(top_log_probs).squeeze(-1), top_log_probs[..., -1]
    mass, most = log_mass.exp(), log_most.exp()
    lower = kept + mass * (log_mass - rest_of(student, top_ids).squeeze(-1))
    rising = student.scatter(-1, top_ids, float("inf")).sort(dim=-1).values[..., :others]
    full = (mass / most).floor().clamp(max=others - 1)
    last = full.long().unsqueeze(-1)
    sums = torch.cat([torch.zeros_like(rising[..., :1]), rising.cumsum(dim=-1)], dim=-1)
    rest = (mass - full * most).clamp(min=0.0)
    upper = (
        kept
        + full * most * log_most
        - most * sums.gather(-1, last).squeeze(-1)
        + torch.xlogy(rest, rest)
        - rest * rising.gather(-1, last).squeeze(-1)
    )
    return Bounds(lower, torch.maximum(upper, lower))
