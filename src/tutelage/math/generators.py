r"""Generators of f-divergences: the one place that knows what each divergence is and how it slopes.

$$ D_f(T, S) = E_{\pi_S} f(u), \quad u = \pi_T / \pi_S, \quad \log u = \log \pi_T - \log \pi_S $$

A generator gives, for every entry, `pi_S f(u)` and its derivative with respect to `log pi_S`. Both are written so that they
keep their digits where the two sides are close and stay defined where one side has no mass: the result is then the limit,
which may be infinite but is never NaN. No gradient flows through anything here; `divergences.f_divergence` has one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

LogProbs = Float[Tensor, "*batch vocab"]
Nats = Float[Tensor, "*batch"]


class Generator(ABC):
    """One f, by its entries and their slopes; everything else follows."""

    __slots__ = ()

    @property
    @abstractmethod
    def adjoint(self) -> "Generator":
        """`f°(v) = v f(1 / v)`, the divergence with both sides exchanged: `D_f°(S, T) = D_f(T, S)`."""
        ...

    @abstractmethod
    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`pi_S f(u)` of each entry, zero where neither side has mass; their sum is the divergence."""
        ...

    @abstractmethod
    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`d entries / d log pi_S = pi_S (f(u) - u f'(u))`, zero where neither side has mass."""
        ...

    @final
    def value(self, log_ratio: Tensor) -> Tensor:
        """f(u) at `log u = log_ratio`."""
        return self.entries(torch.zeros_like(log_ratio), log_ratio)

    @final
    def derivative(self, log_ratio: Tensor) -> Tensor:
        """f'(u) at `log u = log_ratio`, from the identity `f'(u) = f°(1/u) - (1/u) f°'(1/u)`."""
        return self.adjoint.slope(torch.zeros_like(log_ratio), -log_ratio)

    @final
    def corrected_reward(self, log_ratio: Tensor) -> Tensor:
        r"""`w_f(u) = -f(u) + u f'(u)`: the advantage that makes a score function unbiased for D_f.

        $$ \nabla D_f = -E_{\pi_S}[w_f(u) \nabla \log \pi_S] $$

        Any constant may be added. The naive `-f(u)` is unbiased for the reverse KL alone, where the two differ by one.

        Reference: OPD+, arXiv:2606.01039.
        """
        return -self.slope(torch.zeros_like(log_ratio), log_ratio)


@final
@dataclass(frozen=True, slots=True)
class ReverseKL(Generator):
    """KL(pi_S || pi_T): `f = -log u`, `w = log u - 1`."""

    @property
    def adjoint(self) -> Generator:
        """The forward KL."""
        return ForwardKL()

    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`pi_S log(pi_S / pi_T)`."""
        return _weighed(student, student - teacher)

    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`pi_S (log(pi_S / pi_T) + 1)`."""
        return _weighed(student, student - teacher + 1.0)


@final
@dataclass(frozen=True, slots=True)
class ForwardKL(Generator):
    """KL(pi_T || pi_S): `f = u log u`, `w = u`."""

    @property
    def adjoint(self) -> Generator:
        """The reverse KL."""
        return ReverseKL()

    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`pi_T log(pi_T / pi_S)`."""
        return _weighed(teacher, teacher - student)

    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`-pi_T`."""
        return -teacher.exp()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class JensenShannon(Generator):
    """`beta KL(T || m) + (1 - beta) KL(S || m)`, `m = beta pi_T + (1 - beta) pi_S`; `w = (1 - beta) log(m / pi_S)`."""

    beta: float = 0.5
    """Teacher's share of the mixture, 0 < beta < 1."""

    def __post_init__(self) -> None:
        if not 0.0 < self.beta < 1.0:
            raise ValueError(
                f"jensen_shannon needs 0 < beta < 1, got {self.beta!r}: at the ends it is zero for every student. "
                "Use the forward KL (beta -> 0) or the reverse KL (beta -> 1) there."
            )

    @property
    def adjoint(self) -> Generator:
        """The same with the other share."""
        return JensenShannon(beta=1.0 - self.beta)

    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`beta pi_T log(pi_T / m) + (1 - beta) pi_S log(pi_S / m)`."""
        from_student, from_teacher = _to_mixture(student, teacher, self.beta)
        return -self.beta * _weighed(teacher, from_teacher) - (1.0 - self.beta) * _weighed(student, from_student)

    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`(1 - beta) pi_S log(pi_S / m)`."""
        return (self.beta - 1.0) * _weighed(student, _to_mixture(student, teacher, self.beta)[0])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SkewForward(Generator):
    """KL(pi_T || alpha pi_T + (1 - alpha) pi_S): the forward KL as alpha -> 0, at most `-log alpha`.

    Reference: DistiLLM, arXiv:2402.03898.
    """

    alpha: float = 0.1
    """Share of the divergence's own first argument in the mixture, 0 < alpha < 1."""

    def __post_init__(self) -> None:
        _require_skew(self.alpha)

    @property
    def adjoint(self) -> Generator:
        """The other direction."""
        return SkewReverse(alpha=self.alpha)

    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`pi_T log(pi_T / m)`."""
        return -_weighed(teacher, _to_mixture(student, teacher, self.alpha)[1])

    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`-(1 - alpha) pi_S pi_T / m`."""
        _, from_teacher = _to_mixture(student, teacher, self.alpha)
        return (self.alpha - 1.0) * _where_defined((student - from_teacher).exp(), lambda: teacher == -inf)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SkewReverse(Generator):
    """KL(pi_S || (1 - alpha) pi_T + alpha pi_S): the reverse KL as alpha -> 0, at most `-log alpha`.

    Reference: DistiLLM, arXiv:2402.03898.
    """

    alpha: float = 0.1
    """Share of the divergence's own first argument in the mixture, 0 < alpha < 1."""

    def __post_init__(self) -> None:
        _require_skew(self.alpha)

    @property
    def adjoint(self) -> Generator:
        """The other direction."""
        return SkewForward(alpha=self.alpha)

    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`pi_S log(pi_S / m)`."""
        return -_weighed(student, _to_mixture(student, teacher, 1.0 - self.alpha)[0])

    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`pi_S log(pi_S / m) + (1 - alpha) pi_S pi_T / m`."""
        from_student, _ = _to_mixture(student, teacher, 1.0 - self.alpha)
        crossed = _where_defined((teacher - from_student).exp(), lambda: student == -inf)
        return (1.0 - self.alpha) * crossed - _weighed(student, from_student)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Power(Generator):
    """`factor (u^alpha - alpha u - (1 - alpha)) / (alpha (alpha - 1))`: Amari's and Cressie-Read's family.

    At alpha 0 and 1 the limits are taken: the reverse and the forward KL, without a jump. `w = factor (u^alpha - 1) / alpha`,
    at alpha 0 `factor log u`. Every entry is non-negative. For alpha >= 1 infinite where the student has no mass
    and the teacher has, for alpha <= 0 the other way round.

    Reference: Amari 1985; Cressie and Read 1984.
    """

    alpha: float
    """Any number: below 0.5 mode-seeking, above mass-covering."""
    factor: float = 1.0
    """Scale of the whole."""

    def __post_init__(self) -> None:
        if not isfinite(self.alpha):
            raise ValueError(f"alpha needs a finite number, got {self.alpha!r}: 0 is the reverse KL, 1 the forward KL.")

    @property
    def adjoint(self) -> Generator:
        """The same with `1 - alpha`."""
        return Power(alpha=1.0 - self.alpha, factor=self.factor)

    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """Relative to the side that has the larger share of the exponent: neither limit divides by a small number."""
        swapped = self.alpha > 0.5
        base, other = (teacher, student) if swapped else (student, teacher)
        exponent = 1.0 - self.alpha if swapped else self.alpha
        linear = _difference(other, base)
        if exponent == 0.0:
            found = self.factor * (linear - _weighed(base, other - base))
        else:
            curved = _difference(_blend(base, other, exponent), base)
            found = (curved - exponent * linear) * (self.factor / (exponent * (exponent - 1.0)))
        return found.masked_fill(linear.isinf(), inf)  # beyond the type's range: inf - inf

    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`-factor pi_S (u^alpha - 1) / alpha`."""
        if self.alpha == 0.0:
            return self.factor * _weighed(student, student - teacher)
        return _difference(_blend(student, teacher, self.alpha), student) * (-self.factor / self.alpha)


@final
@dataclass(frozen=True, slots=True)
class Jeffreys(Generator):
    """KL(pi_S || pi_T) + KL(pi_T || pi_S): `f = (u - 1) log u`, `w = log u + u - 1`."""

    @property
    def adjoint(self) -> Generator:
        """Itself."""
        return self

    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`(pi_T - pi_S) log(pi_T / pi_S)`."""
        excess = _difference(teacher, student)
        return (excess * (teacher - student)).masked_fill(excess == 0.0, 0.0)

    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`pi_S log(pi_S / pi_T) - (pi_T - pi_S)`."""
        return _weighed(student, student - teacher) - _difference(teacher, student)


@final
@dataclass(frozen=True, slots=True)
class TotalVariation(Generator):
    """Half the L1 distance: `f = |u - 1| / 2`, `w = sign(u - 1) / 2`. The slope is taken as zero where both are equal."""

    @property
    def adjoint(self) -> Generator:
        """Itself."""
        return self

    def entries(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`|pi_T - pi_S| / 2`."""
        return 0.5 * _difference(teacher, student).abs()

    def slope(self, student: LogProbs, teacher: LogProbs) -> LogProbs:
        """`-pi_S sign(pi_T - pi_S) / 2`."""
        return -0.5 * _weighed(student, (teacher - student).sign())


HELLINGER = Power(alpha=0.5, factor=0.25)
"""Squared Hellinger distance, `f = (sqrt(u) - 1)^2 / 2`, in [0, 1]."""
PEARSON = Power(alpha=2.0, factor=2.0)
"""Pearson's chi-square of the teacher from the student, `f = (u - 1)^2`: `sum (pi_T - pi_S)^2 / pi_S`."""
NEYMAN = Power(alpha=-1.0, factor=2.0)
"""Neyman's chi-square, of the student from the teacher, `f = (u - 1)^2 / u`: `sum (pi_T - pi_S)^2 / pi_T`."""

GENERATORS: Mapping[str, Callable[..., Generator]] = {
    "reverse_kl": ReverseKL,
    "forward_kl": ForwardKL,
    "jensen_shannon": JensenShannon,
    "skew_forward_kl": SkewForward,
    "skew_reverse_kl": SkewReverse,
    "alpha": Power,
    "jeffreys": Jeffreys,
    "total_variation": TotalVariation,
    "hellinger": partial(Power, alpha=0.5, factor=0.25),
    "chi_square_forward": partial(Power, alpha=2.0, factor=2.0),
    "chi_square_reverse": partial(Power, alpha=-1.0, factor=2.0),
}
"""Every f by name; see `generator`."""


def generator(name: str, **settings: float) -> Generator:
    """The f of that name, with settings where it has some (`beta` of jensen_shannon; `alpha` of alpha and the skew KLs).

    Raises:
        ValueError: There is no f of that name, or a setting is out of its range.
    """
    if name not in GENERATORS:
        raise ValueError(f"There is no divergence called {name!r}. Known are {sorted(GENERATORS)}.")
    return GENERATORS[name](**settings)


def _require_skew(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(
            f"A skew KL needs 0 < alpha < 1, got {alpha!r}: at 0 it is the plain KL, for which there is a divergence of its "
            "own, and at 1 it is zero for every student."
        )


def _weighed(log_weight: LogProbs, values: LogProbs) -> LogProbs:
    """`exp(log_weight) values` with `0 * inf = 0`, and zero where the weight is zero and the value undefined."""
    weight = log_weight.exp()
    return _where_defined(weight * values, lambda: weight == 0.0)


def _difference(first: LogProbs, second: LogProbs) -> LogProbs:
    """`exp(first) - exp(second)` to its last digit, also where both are tiny, huge, or nearly the same."""
    top, gap = torch.maximum(first, second), first - second
    return _where_defined(top.exp() * torch.expm1(-gap.abs()) * -gap.sign(), lambda: top == -inf)


def _blend(base: LogProbs, other: LogProbs, share: float) -> LogProbs:
    """`(1 - share) base + share other` with `0 * inf = 0`; -inf where both are."""
    if share == 1.0:
        return other
    return _where_defined((1.0 - share) * base + share * other, lambda: torch.maximum(base, other) == -inf, -inf)


def _where_defined(found: LogProbs, undefined: Callable[[], Tensor], fill: float = 0.0) -> LogProbs:
    """Put the limit where there is one; a sum that is finite says in one pass that there is nothing to do."""
    return found if bool(found.sum().isfinite()) else found.masked_fill(undefined(), fill)


def _to_mixture(student: LogProbs, teacher: LogProbs, share: float) -> tuple[LogProbs, LogProbs]:
    """`log(m / pi_S)` and `log(m / pi_T)` for `m = share pi_T + (1 - share) pi_S`."""
    log_ratio = teacher - student
    below = log_ratio <= 0.0
    others = torch.full_like(log_ratio, 1.0 - share).masked_fill_(below, share)  # share of the side that has less here
    nearest = torch.log1p(others * torch.expm1(-log_ratio.abs()))
    return torch.where(below, nearest, nearest + log_ratio), torch.where(below, nearest - log_ratio, nearest)
