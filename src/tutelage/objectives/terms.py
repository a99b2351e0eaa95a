"""A term: signal x weights x scale on the tokens of some authors, with a denominator of its own."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from tutelage.errors import ConfigError
from tutelage.objectives.preference import Preference
from tutelage.objectives.sampled_kl import SampledKL
from tutelage.objectives.score_function import ScoreFunction
from tutelage.objectives.signals import AnySignal
from tutelage.types import Author, Capability, VerdictField
from tutelage.types.schedules import Scalar
from tutelage.weighting import AnyRoute, AnyWeight
from tutelage.weighting.base import Resolvable, RowStatistic, verdicts_of


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenMean:
    """The mean over the term's tokens of the whole step: longer responses count for more."""

    kind: Literal["token_mean"] = "token_mean"


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceMean:
    """The mean over rollouts of each one's mean over its tokens: every response counts the same."""

    kind: Literal["sequence_mean"] = "sequence_mean"


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """The sum over a rollout's tokens divided by a constant, averaged over rollouts: no length bias in the gradient."""

    kind: Literal["constant"] = "constant"
    divisor: float

    def __post_init__(self) -> None:
        if self.divisor <= 0.0:
            raise ConfigError(f"Constant needs divisor > 0, got {self.divisor!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sum:
    """The plain sum over the term's tokens, for signals that carry a denominator of their own (`Preference`)."""

    kind: Literal["sum"] = "sum"


Reduction = Annotated[TokenMean | SequenceMean | Constant | Sum, Field(discriminator="kind")]
AuthorName = Literal["student", "teacher", "dataset"]
AUTHORS: dict[AuthorName, Author] = {"student": Author.STUDENT, "teacher": Author.TEACHER, "dataset": Author.DATASET}


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One summand of an objective."""

    name: str
    """Unique within the recipe; metrics carry it."""
    signal: AnySignal
    """What is minimised at a token."""
    weights: tuple[AnyWeight, ...] = ()
    """Factors per token. They do not enter the denominator, so a token that is weighed out still counts as a token, unless
    `counts` says otherwise."""
    on: tuple[AuthorName, ...] = ("student",)
    """Whose tokens the term acts on and counts."""
    routes: tuple[AnyRoute, ...] = ()
    """Which rollouts it acts on: those that every route takes. Where the teacher could not teach, no term that asks it acts."""
    counts: Literal["acting", "written", "selected"] = "acting"
    """Which tokens the reduction counts: those that the term acts on; all that its authors wrote, routed away or not; or, of
    those that it acts on, the ones to which no weight of the whole step gives zero. With `written` several terms that share the
    rollouts among them also share one denominator; with `selected` the term is the mean over the tokens that a choice left."""
    reduction: Reduction = TokenMean()
    """How tokens become one number."""
    scale: Scalar = 1.0
    """Factor on the term: a number, or a schedule over the optimiser steps."""
    teacher: str = "teacher"
    """Name of the teacher, where a recipe has several."""

    def __post_init__(self) -> None:
        if not self.on:
            raise ConfigError(f"Term {self.name!r} acts on nobody's tokens: give `on` at least one of {sorted(AUTHORS)}.")
        if isinstance(self.signal, Preference) != isinstance(self.reduction, Sum):
            raise ConfigError(
                f"Term {self.name!r} has signal {self.signal.kind!r} and reduction {self.reduction.kind!r}: a preference is "
                "divided by the number of pairs and needs reduction sum, every other signal needs a mean or a constant."
            )
        if isinstance(self.signal, ScoreFunction | SampledKL) and self.on != ("student",):
            raise ConfigError(
                f"Term {self.name!r}: signal {self.signal.kind!r} needs the sampler's log-probabilities, which only the "
                f"student's own tokens have; got on={self.on!r}."
            )

    @property
    def needs(self) -> frozenset[Capability]:
        """What the term asks of its teacher."""
        parts = (*self.weights, *self.routes, *self.measures)
        return self.signal.needs.union(*(part.needs for part in parts))

    @property
    def measures(self) -> tuple[RowStatistic, ...]:
        """Statistics that its weights ask for beside those that every step has."""
        return tuple(statistic for weight in self.weights if weight.scope == "step" for statistic in weight.measures)

    @property
    def verdicts(self) -> frozenset[VerdictField]:
        """What the term asks of the verifier."""
        return verdicts_of(self.signal).union(*map(verdicts_of, (*self.weights, *self.routes)))

    def resolved(self, lookup: Callable[[str], int | None]) -> "Term":
        """The same term, its weights knowing the ids of the tokens that they name."""
        weights = (weight.resolved(lookup) if isinstance(weight, Resolvable) else weight for weight in self.weights)
        return replace(self, weights=tuple(weights))

    @property
    def authors(self) -> tuple[Author, ...]:
        """`on` as values."""
        return tuple(AUTHORS[name] for name in self.on)
