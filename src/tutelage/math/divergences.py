"""Divergences between two categorical distributions given as log-probabilities, in nats per position.

Every function takes `[*batch, vocab]` log-probabilities and returns `[*batch]`. Gradients flow to whichever argument
requires them; callers detach the teacher. `0 log 0 = 0`. Where the first argument of a KL has mass and the second has
none, the divergence is infinite and so is the result.
"""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor

LogProbs = Float[Tensor, "*batch vocab"]
Nats = Float[Tensor, "*batch"]


def reverse_kl(student: LogProbs, teacher: LogProbs) -> Nats:
    """KL(pi_S || pi_T) in nats per position; mode-seeking.

    Gradient with respect to the student's logits: `pi_S (l - sum pi_S l)` with `l = log pi_S - log pi_T`.
    """
    return _kl(student, teacher)


def forward_kl(student: LogProbs, teacher: LogProbs, *, entry_cap: float | None = None) -> Nats:
    """KL(pi_T || pi_S) in nats per position; mass-covering.

    Gradient with respect to the student's logits: `pi_S - pi_T`.

    Args:
        student: Student log-probabilities.
        teacher: Teacher log-probabilities.
        entry_cap: Upper bound in nats on each vocabulary entry's term `pi_T log(pi_T / pi_S)`. Negative terms pass, so
            a capped sum can be negative: it is no divergence any more. Entries at the cap get no gradient.

    Reference: the cap is that of OPSD's released code, arXiv:2601.18734.
    """
    if entry_cap is None:
        return _kl(teacher, student)
    return _kl_terms(teacher, student).clamp(max=entry_cap).sum(dim=-1)


def jensen_shannon(student: LogProbs, teacher: LogProbs, *, beta: float = 0.5) -> Nats:
    r"""Generalised Jensen-Shannon divergence in nats per position, in [0, log 2].

    $$ D_\beta = \beta\,KL(\pi_T \| m) + (1-\beta)\,KL(\pi_S \| m), \quad m = \beta\pi_T + (1-\beta)\pi_S $$

    Gradients flow through the student's share of the mixture as well: without that share they would cancel.

    Args:
        student: Student log-probabilities.
        teacher: Teacher log-probabilities.
        beta: Teacher's share of the mixture, 0 < beta < 1.

    Raises:
        ValueError: `beta` is outside (0, 1), where the divergence is zero for every student.

    Limit cases: `D / beta` tends to `forward_kl` as beta -> 0, `D / (1 - beta)` to `reverse_kl` as beta -> 1. Symmetric
    at beta = 0.5.

    Reference: Agarwal et al. 2023, arXiv:2306.13649, section 2.
    """
    if not 0.0 < beta < 1.0:
        raise ValueError(
            f"jensen_shannon needs 0 < beta < 1, got {beta!r}: at the ends it is zero for every student. "
            "Use forward_kl (beta -> 0) or reverse_kl (beta -> 1) there."
        )
    nowhere = torch.maximum(student, teacher) == float("-inf")  # logaddexp has no gradient there, and nothing asks for one
    mixture = torch.logaddexp(
        teacher.masked_fill(nowhere, 0.0) + log(beta), student.masked_fill(nowhere, 0.0) + log(1.0 - beta)
    )
    return beta * _kl(teacher, mixture) + (1.0 - beta) * _kl(student, mixture)


def total_variation(student: LogProbs, teacher: LogProbs) -> Nats:
    """Half the L1 distance, in [0, 1] and without a unit. The gradient is undefined where both sides are equal."""
    return 0.5 * (student.exp() - teacher.exp()).abs().sum(dim=-1)


def entropy(log_probs: LogProbs) -> Nats:
    """Shannon entropy in nats per position."""
    possible = log_probs > float("-inf")
    return -(log_probs.exp() * torch.where(possible, log_probs, 0.0)).sum(dim=-1)


def expectation(probabilities: Float[Tensor, "*batch vocab"], values: Float[Tensor, "*batch vocab"]) -> Nats:
    """`sum p v` with `0 * inf = 0`; no gradient is meant to flow."""
    found = (probabilities * values).sum(dim=-1)
    if bool(found.isfinite().all()):
        return found
    return (probabilities * torch.where(probabilities > 0.0, values, 0.0)).sum(dim=-1)


def _kl(first: LogProbs, second: LogProbs) -> Nats:
    return _kl_terms(first, second).sum(dim=-1)


def _kl_terms(first: LogProbs, second: LogProbs) -> LogProbs:
    possible = first > float("-inf")  # masking the inputs, not the product, keeps the gradient finite
    gap = torch.where(possible, first, 0.0) - torch.where(possible, second, 0.0)
    return first.exp() * gap
