"""One teacher out of several distributions: products, mixtures, steering, and blends with the student.

Every function takes and returns `[*batch, vocab]` log-probabilities that are normalised. Gradients flow to whichever argument
requires them; callers detach.
"""

from collections.abc import Sequence
from math import inf, log

import torch

from tutelage.math.generators import LogProbs


def product(parts: Sequence[LogProbs], weights: Sequence[float]) -> LogProbs:
    """The normalised geometric mean `prod pi_i^(w_i) / Z`, the weights divided by their sum.

    It is what the student becomes under `sum w_i KL(S || T_i)`, which equals `sum w_i (KL(S || product) - log Z)`: several
    reverse-KL teachers act as a product of experts. An entry that any part rules out is ruled out.

    Raises:
        ValueError: There is not one weight for each part, one is negative, or all are zero.

    Reference: identities U4 and U5 of the shared formulas; Hinton 2002.
    """
    return torch.stack(_scaled(parts, weights)).sum(dim=0).log_softmax(dim=-1)


def mixture(parts: Sequence[LogProbs], weights: Sequence[float]) -> LogProbs:
    """The arithmetic mean `sum w_i pi_i`, the weights divided by their sum: what forward-KL teachers act as.

    Raises:
        ValueError: There is not one weight for each part, one is negative, or all are zero.
    """
    shares = _shares(parts, weights)
    kept = [part + log(share) for part, share in zip(parts, shares, strict=True) if share > 0.0]
    stacked = torch.stack(kept)
    nowhere = (stacked == -inf).all(dim=0)  # logsumexp has no gradient there, and nothing asks for one
    return stacked.masked_fill(nowhere, 0.0).logsumexp(dim=0).masked_fill(nowhere, -inf)


def steering(base: LogProbs, positive: LogProbs, negative: LogProbs, *, scale: float) -> LogProbs:
    """`softmax(log base + scale (log positive - log negative))`: the base, moved along what tells two others apart.

    With base and negative the same this is `negative^(1 - scale) positive^scale`, which for scale > 1 goes beyond the
    positive side (ExOPD's optimum, arXiv:2602.12125). Where both sides of the difference rule an entry out, the base decides;
    an entry that the negative side alone rules out would take all the mass and is left to the base as well.

    Raises:
        ValueError: `scale` is negative, which would exchange the two sides.
    """
    if not scale >= 0.0:
        raise ValueError(f"Steering needs scale >= 0, got {scale!r}: exchange the positive and the negative side instead.")
    difference = torch.where(negative > -inf, positive - negative, 0.0)
    return (base + scale * difference).log_softmax(dim=-1) if scale else base


def consensus(parts: Sequence[LogProbs], *, student: LogProbs) -> LogProbs:
    """Between the geometric and the arithmetic mean of several views, nearer to the latter where they agree on a direction.

    With `d_i = log pi_i - log pi_S`, `G` the mean of `log pi_i`, `A` the log of the mean of `pi_i` and `J = A - G >= 0`, the
    result is `G + gate J`, normalised, with `gate = |mean d| / mean|d| * |mean d| / (|mean d| + J)` and 0/0 taken as 0. An
    entry that one view rules out is ruled out.

    Reference: AVSD, arXiv:2605.20643. Its runs leave the result unnormalised at the sampled token, which shifts every
    advantage of a prefix by one constant and no mean gradient.
    """
    stacked = torch.stack(list(parts))
    geometric, arithmetic = stacked.mean(dim=0), mixture(parts, [1.0] * len(parts))
    differences = stacked - student
    direction = differences.mean(dim=0).abs()
    spread = (arithmetic - geometric).clamp(min=0.0)
    gate = direction / differences.abs().mean(dim=0) * direction / (direction + spread)
    moved = geometric + torch.nan_to_num(gate, nan=0.0) * spread
    return torch.where(geometric > -inf, moved, geometric).log_softmax(dim=-1)


def trust_region(student: LogProbs, teacher: LogProbs, *, share: float) -> LogProbs:
    """`softmax((1 - share) z_S + share z_T)`, 0 <= share <= 1: the closest point to both in reverse KL.

    `argmin_Q (1 - share) KL(Q || S) + share KL(Q || T)`; 0 is the student, 1 the teacher.

    Raises:
        ValueError: `share` is outside [0, 1].

    Reference: identity U7 of the shared formulas; SDPO, arXiv:2601.20802.
    """
    return product((student, teacher), (1.0 - _require_share(share), share))


def interpolation(student: LogProbs, teacher: LogProbs, *, share: float) -> LogProbs:
    """`(1 - share) pi_S + share pi_T`, 0 <= share <= 1.

    Raises:
        ValueError: `share` is outside [0, 1].
    """
    return mixture((student, teacher), (1.0 - _require_share(share), share))


def at_temperature(log_probs: LogProbs, temperature: float) -> LogProbs:
    """`softmax(z / temperature)`; below 1 sharper.

    Raises:
        ValueError: `temperature` is not positive.
    """
    if not temperature > 0.0:
        raise ValueError(f"A temperature must be > 0, got {temperature!r}.")
    return (log_probs / temperature).log_softmax(dim=-1)


def _scaled(parts: Sequence[LogProbs], weights: Sequence[float]) -> list[LogProbs]:
    """Parts by their shares; one without a share has no say, not even where it rules an entry out."""
    return [share * part for part, share in zip(parts, _shares(parts, weights), strict=True) if share > 0.0]


def _shares(parts: Sequence[LogProbs], weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    if len(weights) != len(parts) or min(weights, default=0.0) < 0.0 or not total > 0.0:
        raise ValueError(
            f"{len(parts)} distributions need as many weights, none negative and not all zero; got {list(weights)!r}."
        )
    return [weight / total for weight in weights]


def _require_share(share: float) -> float:
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"The teacher's share must be in [0, 1], got {share!r}.")
    return share
