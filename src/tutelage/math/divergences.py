"""Divergences between two categorical distributions given as log-probabilities, in nats per position.

Every function takes `[*batch, vocab]` log-probabilities and returns `[*batch]`. Gradients flow to whichever argument
requires them, once; callers detach the teacher. `0 log 0 = 0`. Where the first argument of a KL has mass and the second has
none, the divergence is infinite and so is the result. All of them are one mechanism, `f_divergence`.
"""

from typing import Any, cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.math import generators
from tutelage.math.generators import Generator, LogProbs, Nats


def f_divergence(generator: Generator, student: LogProbs, teacher: LogProbs, *, entry_cap: float | None = None) -> Nats:
    r"""Any f-divergence, `sum_v pi_S(v) f(pi_T(v) / pi_S(v))`.

    Gradient with respect to `log pi_S`: `pi_S (f(u) - u f'(u))`, in closed form.

    Args:
        generator: The f; see `math.generators`.
        student: Student log-probabilities.
        teacher: Teacher log-probabilities.
        entry_cap: Upper bound on each vocabulary entry's summand. Lower ones pass, and where f takes both signs the
            capped sum can be negative: it is no divergence any more. Entries at the cap get no gradient.

    Returns:
        One value per position; infinite where the limit is.
    """
    entries = cast(Tensor, _Entries.apply(student, teacher, generator))  # pyright: ignore  # untyped in torch
    return (entries if entry_cap is None else entries.clamp(max=entry_cap)).sum(dim=-1)


def reverse_kl(student: LogProbs, teacher: LogProbs) -> Nats:
    """KL(pi_S || pi_T) in nats per position; mode-seeking.

    Gradient with respect to the student's logits: `pi_S (l - sum pi_S l)` with `l = log pi_S - log pi_T`.
    """
    return f_divergence(generators.ReverseKL(), student, teacher)


def forward_kl(student: LogProbs, teacher: LogProbs, *, entry_cap: float | None = None) -> Nats:
    """KL(pi_T || pi_S) in nats per position; mass-covering.

    Gradient with respect to the student's logits: `pi_S - pi_T`.

    Args:
        student: Student log-probabilities.
        teacher: Teacher log-probabilities.
        entry_cap: Upper bound in nats on each vocabulary entry's term `pi_T log(pi_T / pi_S)`; see `f_divergence`.

    Reference: the cap is that of OPSD's released code, arXiv:2601.18734.
    """
    return f_divergence(generators.ForwardKL(), student, teacher, entry_cap=entry_cap)


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
    return f_divergence(generators.JensenShannon(beta=beta), student, teacher)


def skew_forward_kl(student: LogProbs, teacher: LogProbs, *, alpha: float = 0.1) -> Nats:
    """KL(pi_T || alpha pi_T + (1 - alpha) pi_S) in nats per position, in [0, -log alpha]; 0 < alpha < 1.

    Limit cases: `forward_kl` as alpha -> 0. Finite where the student has no mass.

    Raises:
        ValueError: `alpha` is outside (0, 1).

    Reference: DistiLLM, arXiv:2402.03898 (SKL).
    """
    return f_divergence(generators.SkewForward(alpha=alpha), student, teacher)


def skew_reverse_kl(student: LogProbs, teacher: LogProbs, *, alpha: float = 0.1) -> Nats:
    """KL(pi_S || (1 - alpha) pi_T + alpha pi_S) in nats per position, in [0, -log alpha]; 0 < alpha < 1.

    Gradients flow through the student's share of the mixture as well. Limit cases: `reverse_kl` as alpha -> 0. Finite where
    the teacher has no mass.

    Raises:
        ValueError: `alpha` is outside (0, 1).

    Reference: DistiLLM, arXiv:2402.03898 (SRKL).
    """
    return f_divergence(generators.SkewReverse(alpha=alpha), student, teacher)


def alpha_divergence(student: LogProbs, teacher: LogProbs, *, alpha: float) -> Nats:
    """`(sum pi_S^(1 - alpha) pi_T^alpha - 1) / (alpha (alpha - 1))` per position, in nats at the two limits.

    Limit cases: `reverse_kl` at alpha 0, `forward_kl` at 1; four times `squared_hellinger` at 0.5; half of `chi_square` at 2
    (forward) and -1 (reverse). Infinite for alpha >= 1 where the student lacks mass, for alpha <= 0 where the teacher does.

    Raises:
        ValueError: `alpha` is not finite.

    Reference: Amari 1985; Cressie and Read 1984 with lambda = alpha - 1.
    """
    return f_divergence(generators.Power(alpha=alpha), student, teacher)


def jeffreys(student: LogProbs, teacher: LogProbs) -> Nats:
    """KL(pi_S || pi_T) + KL(pi_T || pi_S) in nats per position; infinite where either side lacks mass the other has."""
    return f_divergence(generators.Jeffreys(), student, teacher)


def squared_hellinger(student: LogProbs, teacher: LogProbs) -> Nats:
    """Half the squared distance of the square roots, `1 - sum sqrt(pi_S pi_T)`, in [0, 1] and without a unit."""
    return f_divergence(generators.HELLINGER, student, teacher)


def chi_square_forward(student: LogProbs, teacher: LogProbs) -> Nats:
    """Pearson's `sum (pi_T - pi_S)^2 / pi_S`, without a unit; infinite where the student has no mass and the teacher has."""
    return f_divergence(generators.PEARSON, student, teacher)


def chi_square_reverse(student: LogProbs, teacher: LogProbs) -> Nats:
    """Neyman's `sum (pi_T - pi_S)^2 / pi_T`, without a unit; infinite where the teacher has no mass and the student has."""
    return f_divergence(generators.NEYMAN, student, teacher)


def total_variation(student: LogProbs, teacher: LogProbs) -> Nats:
    """Half the L1 distance, in [0, 1] and without a unit. The gradient is taken as zero where both sides are equal."""
    return f_divergence(generators.TotalVariation(), student, teacher)


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


@final
class _Entries(torch.autograd.Function):
    """A generator's entries with its slopes as their gradients: automatic ones would be NaN where a limit is taken."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # autograd's signature is *args
        ctx: Any,  # autograd's own, which carries whatever is put on it
        student: LogProbs,
        teacher: LogProbs,
        generator: Generator,
    ) -> LogProbs:
        ctx.save_for_backward(student, teacher)
        ctx.generator = generator
        return generator.entries(student, teacher)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, upstream: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        student, teacher = ctx.saved_tensors
        generator: Generator = ctx.generator
        of_student, of_teacher = ctx.needs_input_grad[:2]
        return (
            _scaled(generator.slope(student, teacher), upstream) if of_student else None,
            _scaled(generator.adjoint.slope(teacher, student), upstream) if of_teacher else None,
            None,
        )


def _scaled(slope: Tensor, upstream: Tensor) -> Tensor:
    """No gradient where none is asked for, whatever the slope there: a capped entry's may be infinite."""
    return (slope * upstream).masked_fill(upstream == 0.0, 0.0)
