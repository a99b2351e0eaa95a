"""What is minimised at a token: divergences, score functions, and cross-entropy, as callable values.

A signal maps a chunk of rows to one value in nats per row; its gradient flows to `rows.student` only.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math import divergences, estimators
from tutelage.objectives.supports import FullVocabulary, TopK
from tutelage.types import Capability
from tutelage.weighting.base import Rows

Support = Annotated[FullVocabulary | TopK, Field(discriminator="kind")]


@runtime_checkable
class Signal(Protocol):
    """One value in nats per row."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What it asks of the teacher."""
        ...

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """Values per row; gradients flow to the student's log-probabilities."""
        ...


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

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probability of the sampled token, and what the baseline asks."""
        return frozenset[Capability]({"sampled"}) | self.baseline.needs

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The surrogate per row."""
        behaviour = rows.batch.behaviour_log_probs
        origin = behaviour if self.relative_to == "behaviour" else rows.sampled.detach()
        advantage = self.coefficient * (rows.teachers[teacher].sampled - origin - self.baseline(rows, teacher=teacher))
        if not self.importance:
            return estimators.score_function(rows.sampled, advantage)
        log_rho = rows.sampled - behaviour
        if self.importance_cap is not None:
            return estimators.score_function(rows.sampled, log_rho.detach().exp().clamp(max=self.importance_cap) * advantage)
        return estimators.score_function(rows.sampled, advantage, log_ratio_to_behaviour=log_rho)


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossEntropy:
    """`-log pi_S` of the token that was written: supervised training, no teacher needed at this point."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing of the teacher."""
        return frozenset()

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """Negative log-likelihood per row."""
        return -rows.sampled


AnySignal = Annotated[ReverseKL | ForwardKL | JensenShannon | ScoreFunction | CrossEntropy, Field(discriminator="kind")]
