"""Divergences over a whole vocabulary with their slopes, in a handful of passes and without automatic differentiation.

A *slope* is the derivative with respect to the student's log-probabilities, up to a multiple of the student's
probabilities: the softmax takes any such multiple out again (`logit_gradient`). `f_divergence` serves every f. The three
that training runs on most have a shorter way from probabilities and log-ratios that are shared between terms; there,
log-ratios must be finite, and where an entry has none (`0 log 0`) the result is NaN.
"""

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.math.generators import Generator, LogProbs, Nats

Probabilities = Float[Tensor, "*batch vocab"]
ValueAndSlope = tuple[Nats, Float[Tensor, "*batch vocab"]]


def f_divergence(
    generator: Generator, student: LogProbs, teacher: LogProbs, *, entry_cap: float | None = None
) -> ValueAndSlope:
    """Any f-divergence of log-probabilities and its slope `pi_S (f(u) - u f'(u))`; entries at the cap have none."""
    entries, slope = generator.entries(student, teacher), generator.slope(student, teacher)
    if entry_cap is None:
        return entries.sum(dim=-1), slope
    return entries.clamp(max=entry_cap).sum(dim=-1), slope.masked_fill(entries >= entry_cap, 0.0)


def reverse_kl(student: Probabilities, log_ratio: LogProbs) -> ValueAndSlope:
    """KL(pi_S || pi_T) and its slope `-pi_S log_ratio`, with `log_ratio = log pi_T - log pi_S`."""
    slope = (student * log_ratio).neg_()
    return slope.sum(dim=-1), slope


def forward_kl(teacher: Probabilities, log_ratio: LogProbs, *, entry_cap: float | None = None) -> ValueAndSlope:
    """KL(pi_T || pi_S) and its slope `-pi_T`; entries at the cap have none (see `math.divergences.forward_kl`)."""
    if entry_cap is None:
        return (teacher * log_ratio).sum(dim=-1), -teacher
    terms = teacher * log_ratio
    return terms.clamp(max=entry_cap).sum(dim=-1), -teacher.masked_fill(terms >= entry_cap, 0.0)


def jensen_shannon(student: Probabilities, teacher: Probabilities, log_ratio: LogProbs, *, beta: float) -> ValueAndSlope:
    """Generalised Jensen-Shannon divergence and its slope `(1 - beta) pi_S (log pi_S - log m)`.

    With `m` the mixture, `log m - log pi_S = log(1 + beta (pi_T / pi_S - 1))` keeps its digits where both sides are close.
    """
    to_mixture = torch.expm1(log_ratio).mul_(beta).log1p_()
    slope = (student * to_mixture).mul_(beta - 1.0)
    value = slope.sum(dim=-1) + beta * (log_ratio - to_mixture).mul_(teacher).sum(dim=-1)
    return value, slope


def both_kls(student: Probabilities, teacher: Probabilities, log_ratio: LogProbs) -> tuple[Nats, Nats]:
    """KL(pi_S || pi_T) and KL(pi_T || pi_S), each as a sum of terms that are not negative; no gradient is meant to flow.

    `sum pi_S (exp(r) - 1 - r)` and `sum pi_T r - pi_S (exp(r) - 1)`: what the log-ratios of a row have in common through
    the rounding of two softmaxes cancels, where in `-sum pi_S r` it stays and drowns a divergence below a micronat.
    """
    excess = torch.expm1(log_ratio).mul_(student)  # pi_T - pi_S to its last digit
    forward = (teacher * log_ratio).sub_(excess).sum(dim=-1)
    return excess.sub_(student * log_ratio).sum(dim=-1), forward


def logit_gradient(
    slope: Float[Tensor, "*batch vocab"], student: Probabilities, *, out: Float[Tensor, "*batch vocab"] | None = None
) -> Float[Tensor, "*batch vocab"]:
    """The gradient with respect to logits that a slope stands for: `slope - pi_S sum(slope)`, written to `out` if given."""
    return torch.addcmul(slope, student, slope.sum(dim=-1, keepdim=True), value=-1.0, out=out)


@cache
def compiled(function: Callable[..., ValueAndSlope]) -> Callable[..., ValueAndSlope]:
    """The same function with its passes over memory fused by `torch.compile`; compiled at the first call, for any shape."""
    return torch.compile(function, dynamic=True)  # pyright: ignore[reportUnknownMemberType]
