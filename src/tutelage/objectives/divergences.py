"""Divergences of the student from a teacher at every token, on a support, as callable values.

A signal maps a chunk of rows to one value in nats per row; its gradient flows to `rows.student` only.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math import divergences, slopes
from tutelage.objectives.linearise import Linearised
from tutelage.objectives.supports import FullVocabulary, TopK
from tutelage.types import Capability
from tutelage.weighting.base import Rows

Support = Annotated[FullVocabulary | TopK, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReverseKL:
    """KL(pi_S || pi_T) on a support."""

    kind: Literal["reverse_kl"] = "reverse_kl"
    support: Support = FullVocabulary()

    @property
    def needs(self) -> frozenset[Capability]:
        """The support's needs."""
        return self.support.needs

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The divergence per row."""
        return divergences.reverse_kl(*self.support.restrict(rows, teacher=teacher))

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values and slopes in closed form."""
        if isinstance(self.support, TopK):
            return self.support.linearise(rows, teacher=teacher, divergence=divergences.reverse_kl)
        values, slope = slopes.reverse_kl(rows.probabilities, rows.log_ratios(teacher))
        return Linearised(values=values, slope=slope)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardKL:
    """KL(pi_T || pi_S) on a support."""

    kind: Literal["forward_kl"] = "forward_kl"
    support: Support = FullVocabulary()
    entry_cap: float | None = None
    """Upper bound in nats on each entry's term; see `math.divergences.forward_kl`."""

    def __post_init__(self) -> None:
        if self.entry_cap is not None and self.entry_cap <= 0.0:
            raise ConfigError(f"ForwardKL needs entry_cap > 0 or none at all, got {self.entry_cap!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """The support's needs."""
        return self.support.needs

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The divergence per row."""
        student, target = self.support.restrict(rows, teacher=teacher)
        return divergences.forward_kl(student, target, entry_cap=self.entry_cap)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values and slopes in closed form."""
        if isinstance(self.support, TopK):
            divergence = partial(divergences.forward_kl, entry_cap=self.entry_cap)
            return self.support.linearise(rows, teacher=teacher, divergence=divergence)
        target = rows.teachers[teacher].probabilities
        values, slope = slopes.forward_kl(target, rows.log_ratios(teacher), entry_cap=self.entry_cap)
        return Linearised(values=values, slope=slope)


@dataclass(frozen=True, kw_only=True, slots=True)
class JensenShannon:
    """Generalised Jensen-Shannon divergence on a support; `beta` is the teacher's share of the mixture."""

    kind: Literal["jensen_shannon"] = "jensen_shannon"
    support: Support = FullVocabulary()
    beta: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.beta < 1.0:
            raise ConfigError(
                f"JensenShannon needs 0 < beta < 1, got {self.beta!r}: at the ends it is zero for every student. "
                "Use ForwardKL for beta -> 0 and ReverseKL for beta -> 1."
            )

    @property
    def needs(self) -> frozenset[Capability]:
        """The support's needs."""
        return self.support.needs

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The divergence per row."""
        student, target = self.support.restrict(rows, teacher=teacher)
        return divergences.jensen_shannon(student, target, beta=self.beta)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values and slopes in closed form."""
        if isinstance(self.support, TopK):
            divergence = partial(divergences.jensen_shannon, beta=self.beta)
            return self.support.linearise(rows, teacher=teacher, divergence=divergence)
        target = rows.teachers[teacher].probabilities
        values, slope = slopes.jensen_shannon(rows.probabilities, target, rows.log_ratios(teacher), beta=self.beta)
        return Linearised(values=values, slope=slope)
