"""Score functions: the log-probability of the sampled token, weighed by an advantage that carries no gradient."""

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math import divergences, estimators
from tutelage.objectives.linearise import Linearised, of_sampled
from tutelage.types import Capability
from tutelage.weighting.base import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class NoBaseline:
    """The advantage is the log-ratio itself."""

    kind: Literal["none"] = "none"

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing of the teacher."""
        return frozenset()

    def __call__(self, rows: Rows, *, teacher: str) -> float:
        """Zero."""
        return 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentKLBaseline:
    """The negative reverse KL of the prefix: the mean log-ratio under the student. Unbiased, lower variance.

    Reference: vOPD, arXiv:2605.07865.
    """

    kind: Literal["student_kl"] = "student_kl"
    k: int = 100
    """Entries kept, the student's likeliest, both sides renormalised within; 0 keeps the whole vocabulary."""

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ConfigError(f"StudentKLBaseline needs k >= 0 (0 = whole vocabulary), got {self.k!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probabilities of the student's entries."""
        return frozenset({"full"})

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """What is subtracted from the log-ratio, in nats per row."""
        if self.k == 0:
            return divergences.expectation(rows.probabilities, rows.log_ratios(teacher))
        return -estimators.kl_baseline(rows.student, rows.teachers[teacher].full(), k=self.k)


Baseline = Annotated[NoBaseline | StudentKLBaseline, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreFunction:
    """Sampled-token reverse KL: `-rho sg[scale_of_advantage (log_ratio - baseline)] log pi_S`.

    The value is a surrogate with the right gradient; it does not measure anything. Acts on tokens that the student wrote.

    Reference: sampled-token OPD (Thinking Machines, 2025-10); identity U1.
    """

    kind: Literal["score_function"] = "score_function"
    baseline: Baseline = NoBaseline()
    importance: bool = True
    """Weigh by pi_S / mu, so that tokens of an older or filtered sampler give an unbiased gradient."""
    importance_cap: float | None = None
    """Truncates the ratio pi_S / mu from above; none keeps it whole. Public OPD scripts truncate at 5."""
    relative_to: Literal["behaviour", "student"] = "behaviour"
    """Whose log-probability the teacher's is compared with: the sampler's, as in the released code, or the one that the
    trainer recomputes. They are equal where both agree; with stale rollouts only `student` aims at KL(pi_S || pi_T)."""
    coefficient: float = 1.0
    """Factor on the log-ratio (`kl_penalty_coef`)."""

    def __post_init__(self) -> None:
        if self.importance_cap is not None and self.importance_cap <= 0.0:
            raise ConfigError(f"ScoreFunction needs importance_cap > 0 or none at all, got {self.importance_cap!r}.")
        if self.importance_cap is not None and not self.importance:
            raise ConfigError(
                f"ScoreFunction has importance_cap {self.importance_cap!r} without importance, where it has no effect. "
                "Set importance to true, or leave the cap out."
            )

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probability of the sampled token, and what the baseline asks."""
        return frozenset[Capability]({"sampled"}) | self.baseline.needs

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The surrogate per row."""
        return self._surrogate(rows.sampled, rows, teacher)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values, and slopes at the sampled tokens only."""
        return of_sampled(lambda sampled: self._surrogate(sampled, rows, teacher), rows)

    def _surrogate(self, sampled: Float[Tensor, " row"], rows: Rows, teacher: str) -> Float[Tensor, " row"]:
        behaviour = rows.batch.behaviour_log_probs
        origin = behaviour if self.relative_to == "behaviour" else sampled.detach()
        advantage = self.coefficient * (rows.teachers[teacher].sampled - origin - self.baseline(rows, teacher=teacher))
        if not self.importance:
            return estimators.score_function(sampled, advantage)
        log_rho = sampled - behaviour
        if self.importance_cap is not None:
            return estimators.score_function(sampled, log_rho.detach().exp().clamp(max=self.importance_cap) * advantage)
        return estimators.score_function(sampled, advantage, log_ratio_to_behaviour=log_rho)
