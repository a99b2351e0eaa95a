"""Token weights."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math.divergences import expectation
from tutelage.math.estimators import acceptance
from tutelage.types import Capability, Gather, StepBatch
from tutelage.types.schedules import Scalar, range_of, value_at
from tutelage.weighting.base import Measured, Rows, RowStatistic


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustMask:
    """One with probability min(pi_T / pi_S, 1) of the sampled token, else zero; or its complement.

    The draw uses the row's noise, so a token that is inside for one term is outside for its complement.

    Reference: TrOPD, arXiv:2606.01249.
    """

    kind: Literal["trust_mask"] = "trust_mask"
    inside: bool = True
    """False gives the complement: one where the token is an outlier."""
    forced: bool = False
    """Every token counts as trusted; the limit case that leaves plain OPD."""

    scope: ClassVar[Literal["token"]] = "token"

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probability of the sampled token."""
        return frozenset({"sampled"})

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """One or zero per row."""
        trusted = rows.batch.noise < self.threshold(rows, teacher=teacher)
        return (trusted if self.inside else ~trusted).to(rows.student.dtype)

    def threshold(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The probability that a token is trusted."""
        accepted = acceptance(rows.log_ratio(teacher))
        return torch.ones_like(accepted) if self.forced else accepted


@dataclass(frozen=True, kw_only=True, slots=True)
class EntropyAbove:
    """One for tokens at or above a quantile of the student's entropy over the term's tokens, zero elsewhere.

    The quantile is taken over the step on all processes and not over a micro-batch, so no split of the step matters.

    Reference: the entropy mask of "Revisiting OPD", arXiv:2603.25562 (its script keeps the top 20 %).
    """

    kind: Literal["entropy_above"] = "entropy_above"
    quantile: Scalar = 0.8
    """Share of the term's tokens that get no weight, in [0, 1); it may move over training."""

    scope: ClassVar[Literal["step"]] = "step"
    statistics: ClassVar[frozenset[str]] = frozenset({"student_entropy_nats"})
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def __post_init__(self) -> None:
        if not all(0.0 <= value < 1.0 for value in range_of(self.quantile)):
            raise ConfigError(f"EntropyAbove needs 0 <= quantile < 1, got {self.quantile!r}: at 1 no token is left.")

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing of the teacher."""
        return frozenset()

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, step: int, gather: Gather
    ) -> Float[Tensor, " row"]:
        """One or zero per row of the step."""
        values = measured["student_entropy_nats"]
        return at_or_above_quantile(values, gather(values[mask]), value_at(self.quantile, step))


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherEntropyAbove:
    """One where the teacher's entropy exceeds a bound in nats, zero elsewhere.

    Reference: EOPD, arXiv:2603.07079.
    """

    kind: Literal["teacher_entropy_above"] = "teacher_entropy_above"
    nats: float = 0.8
    """The bound; infinity lets nothing through, minus infinity everything."""

    scope: ClassVar[Literal["token"]] = "token"

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's whole distribution."""
        return frozenset({"full"})

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """One or zero per row."""
        said = rows.teachers[teacher]
        return (-expectation(said.probabilities, said.full()) > self.nats).to(rows.student.dtype)


def at_or_above_quantile(
    values: Float[Tensor, " row"], everyone: Float[Tensor, " all"], quantile: float
) -> Float[Tensor, " row"]:
    """One where a value is at or above a quantile of everyone's, zero elsewhere; ties at the quantile all count."""
    if not len(everyone):
        return torch.ones_like(values)
    ordered = everyone.sort().values  # torch.quantile refuses more than 2^24 values
    threshold = ordered[min(int(quantile * len(ordered) + 0.5), len(ordered) - 1)]
    return (values >= threshold).to(values.dtype)
