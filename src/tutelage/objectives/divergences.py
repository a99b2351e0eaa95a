"""Divergences of the student from a teacher at every token, on a support, as callable values.

A signal maps a chunk of rows to one value in nats per row; its gradient flows to `rows.student` only. What a divergence is
stands in `math.generators`; what all of them do with a support and with caps stands in `Divergence`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, final

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math import divergences, generators, slopes
from tutelage.math.generators import Generator
from tutelage.objectives.linearise import Linearised
from tutelage.objectives.supports import FullVocabulary, SampledToken, TopK
from tutelage.types import Capability
from tutelage.weighting.base import Rows

Support = Annotated[FullVocabulary | TopK | SampledToken, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence(ABC):
    """An f-divergence on a support; a shipped or a new one says only which f, by `generator`."""

    kind: str
    support: Support = FullVocabulary()
    """On which vocabulary entries."""
    entry_cap: float | None = None
    """Upper bound on each entry's term, beyond which it has no gradient; see `math.divergences.f_divergence`."""
    token_cap: float | None = None
    """Upper bound on the token's value, beyond which the token has no gradient; it also bounds an infinite divergence."""

    def __post_init__(self) -> None:
        for name, cap in (("entry_cap", self.entry_cap), ("token_cap", self.token_cap)):
            if cap is not None and not cap > 0.0:
                raise ConfigError(f"{type(self).__name__} needs {name} > 0 or none at all, got {cap!r}.")
        try:
            _ = self.generator
        except ValueError as error:
            raise ConfigError(f"{type(self).__name__}: {error}") from error

    @property
    @abstractmethod
    def generator(self) -> Generator:
        """The f.

        Raises:
            ValueError: A setting is out of its range.
        """
        ...

    @final
    @property
    def needs(self) -> frozenset[Capability]:
        """The support's needs."""
        return self.support.needs

    @final
    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The divergence per row."""
        student, target = self.support.restrict(rows, teacher=teacher)
        values = divergences.f_divergence(self.generator, student, target, entry_cap=self.entry_cap)
        return values if self.token_cap is None else values.clamp(max=self.token_cap)

    @final
    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values and slopes in closed form."""
        if isinstance(self.support, FullVocabulary):
            values, slope = _on_vocabulary(self.generator, rows, teacher, self.entry_cap)
            found = Linearised(values=values, slope=slope)
        else:
            divergence = partial(divergences.f_divergence, self.generator, entry_cap=self.entry_cap)
            found = self.support.linearise(rows, teacher=teacher, divergence=divergence)
        return found if self.token_cap is None else found.capped(self.token_cap)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ReverseKL(Divergence):
    """KL(pi_S || pi_T) on a support; mode-seeking."""

    kind: Literal["reverse_kl"] = "reverse_kl"

    @property
    def generator(self) -> Generator:
        """The f."""
        return generators.ReverseKL()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardKL(Divergence):
    """KL(pi_T || pi_S) on a support; mass-covering. OPSD's released code has an `entry_cap` of 0.05 on it."""

    kind: Literal["forward_kl"] = "forward_kl"

    @property
    def generator(self) -> Generator:
        """The f."""
        return generators.ForwardKL()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class JensenShannon(Divergence):
    """Generalised Jensen-Shannon divergence on a support."""

    kind: Literal["jensen_shannon"] = "jensen_shannon"
    beta: float = 0.5
    """Teacher's share of the mixture, 0 < beta < 1."""

    @property
    def generator(self) -> Generator:
        """The f."""
        return generators.JensenShannon(beta=self.beta)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SkewKL(Divergence):
    """KL towards a mixture that holds a share of its own first argument: never above `-log alpha`.

    `forward`: KL(pi_T || alpha pi_T + (1 - alpha) pi_S). `reverse`: KL(pi_S || (1 - alpha) pi_T + alpha pi_S).

    Reference: DistiLLM, arXiv:2402.03898.
    """

    kind: Literal["skew_kl"] = "skew_kl"
    direction: Literal["forward", "reverse"] = "forward"
    """Which side comes first."""
    alpha: float = 0.1
    """That side's share of the mixture, 0 < alpha < 1; towards 0 the plain KL."""

    @property
    def generator(self) -> Generator:
        """The f."""
        skew = generators.SkewForward if self.direction == "forward" else generators.SkewReverse
        return skew(alpha=self.alpha)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Alpha(Divergence):
    """Amari's alpha-divergence on a support: the reverse KL at 0, the forward KL at 1, smooth between and beyond.

    Its entries are non-negative, so on a support with rest `truncate` it differs from the KLs at its ends by mass that was
    cut off.
    """

    kind: Literal["alpha"] = "alpha"
    alpha: float = 0.5
    """Any number; the larger, the more mass-covering."""

    @property
    def generator(self) -> Generator:
        """The f."""
        return generators.Power(alpha=self.alpha)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Jeffreys(Divergence):
    """KL(pi_S || pi_T) + KL(pi_T || pi_S) on a support."""

    kind: Literal["jeffreys"] = "jeffreys"

    @property
    def generator(self) -> Generator:
        """The f."""
        return generators.Jeffreys()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TotalVariation(Divergence):
    """Half the L1 distance on a support, in [0, 1]; its gradient has the same size however close both sides are."""

    kind: Literal["total_variation"] = "total_variation"

    @property
    def generator(self) -> Generator:
        """The f."""
        return generators.TotalVariation()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Hellinger(Divergence):
    """Squared Hellinger distance on a support, in [0, 1]."""

    kind: Literal["hellinger"] = "hellinger"

    @property
    def generator(self) -> Generator:
        """The f."""
        return generators.HELLINGER


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ChiSquare(Divergence):
    """Chi-square divergence on a support; unbounded, so give it a cap where the two sides may be far apart.

    `forward`: Pearson's `sum (pi_T - pi_S)^2 / pi_S`. `reverse`: Neyman's `sum (pi_T - pi_S)^2 / pi_T`.
    """

    kind: Literal["chi_square"] = "chi_square"
    direction: Literal["forward", "reverse"] = "forward"
    """Forward divides by the student's probability, reverse by the teacher's."""

    @property
    def generator(self) -> Generator:
        """The f."""
        return generators.PEARSON if self.direction == "forward" else generators.NEYMAN


def _way(function: Callable[..., slopes.ValueAndSlope], rows: Rows) -> Callable[..., slopes.ValueAndSlope]:
    return slopes.compiled(function) if rows.compiled else function


def _on_vocabulary(
    generator: Generator, rows: Rows, teacher: str, entry_cap: float | None
) -> tuple[Float[Tensor, " row"], Float[Tensor, "row vocab"]]:
    """Values and slopes on every entry, from what the terms of a chunk share where there is such a way."""
    theirs = rows.teachers[teacher]
    match generator:
        case generators.ForwardKL():
            return slopes.forward_kl(theirs.probabilities, rows.log_ratios(teacher), entry_cap=entry_cap)
        case generators.ReverseKL() if entry_cap is None:
            return slopes.reverse_kl(rows.probabilities, rows.log_ratios(teacher))
        case generators.JensenShannon(beta=beta) if entry_cap is None:
            run = _way(slopes.jensen_shannon, rows)
            return run(rows.probabilities, theirs.probabilities, rows.log_ratios(teacher), beta=beta)
        case _:
            run = _way(slopes.f_divergence, rows)
            return run(generator, rows.student.detach(), theirs.full(), entry_cap=entry_cap)
