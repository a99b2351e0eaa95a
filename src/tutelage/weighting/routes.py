"""Which rollouts a term acts on."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Capability, Gather, StepBatch, VerdictField
from tutelage.weighting.base import Measured
from tutelage.weighting.rollouts import rollout_means


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Rollouts that the verifier found right, or those that it found wrong; where it did not apply, neither."""

    kind: Literal["outcome"] = "outcome"
    correct: bool = True
    """Which of the two."""

    needs: ClassVar[frozenset[Capability]] = frozenset()
    statistics: ClassVar[frozenset[str]] = frozenset()
    verdicts: ClassVar[frozenset[VerdictField]] = frozenset({"correct"})

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, gather: Gather
    ) -> Bool[Tensor, " row"]:
        """True in rollouts with that outcome."""
        return _of_rollouts(batch, [verdict.correct is self.correct for verdict in batch.verdicts])


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """Rollouts that a teacher could teach, because it had the context that it reads.

    A term that asks its teacher for anything acts on no others anyway; this is for terms that take the rest.
    """

    kind: Literal["taught"] = "taught"
    teacher: str = "teacher"
    """Name of the teacher."""

    needs: ClassVar[frozenset[Capability]] = frozenset()
    statistics: ClassVar[frozenset[str]] = frozenset()

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, gather: Gather
    ) -> Bool[Tensor, " row"]:
        """True in rollouts that it taught."""
        return batch.taught_by(self.teacher)


@dataclass(frozen=True, kw_only=True, slots=True)
class LikelyToTeacher:
    """Rollouts whose mean log-probability under the teacher is at or above a quantile over the step's rollouts.

    Reference: the filter of FiRe-OPD, arXiv:2606.02684.
    """

    kind: Literal["likely_to_teacher"] = "likely_to_teacher"
    quantile: float = 0.2
    """Share of the rollouts that are dropped, in [0, 1); ties at the quantile stay."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"sampled"})
    statistics: ClassVar[frozenset[str]] = frozenset({"teacher_log_prob"})

    def __post_init__(self) -> None:
        if not 0.0 <= self.quantile < 1.0:
            raise ConfigError(f"LikelyToTeacher needs 0 <= quantile < 1, got {self.quantile!r}: at 1 no rollout is left.")

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, gather: Gather
    ) -> Bool[Tensor, " row"]:
        """True in rollouts that the teacher finds likely enough."""
        means, present = rollout_means(measured["teacher_log_prob"], batch, mask)
        ordered = gather(means[present]).sort().values
        if not len(ordered):
            return mask
        threshold = ordered[min(int(self.quantile * len(ordered) + 0.5), len(ordered) - 1)]
        return (means >= threshold)[batch.rollout]


@dataclass(frozen=True, kw_only=True, slots=True)
class Otherwise:
    """What some routes together do not take: a rollout has to fail one of them."""

    kind: Literal["otherwise"] = "otherwise"
    than: tuple[Annotated[Outcome | Taught | LikelyToTeacher, Field(discriminator="kind")], ...]
    """The routes whose rollouts are left out."""

    def __post_init__(self) -> None:
        if not self.than:
            raise ConfigError("Otherwise needs at least one route: what no route takes is nothing at all.")

    @property
    def statistics(self) -> frozenset[str]:
        """What the routes ask for."""
        return frozenset[str]().union(*(route.statistics for route in self.than))

    @property
    def needs(self) -> frozenset[Capability]:
        """What the routes ask of the teacher."""
        return frozenset[Capability]().union(*(route.needs for route in self.than))

    @property
    def verdicts(self) -> frozenset[VerdictField]:
        """What the routes ask of the verifier."""
        return frozenset[VerdictField]().union(*(route.verdicts for route in self.than if isinstance(route, Outcome)))

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, gather: Gather
    ) -> Bool[Tensor, " row"]:
        """True where one of the routes is not taken."""
        taken = mask
        for route in self.than:
            taken = taken & route(batch, measured, taken, gather=gather)
        return ~taken


AnyRoute = Annotated[Outcome | Taught | LikelyToTeacher | Otherwise, Field(discriminator="kind")]


def _of_rollouts(batch: StepBatch, wanted: list[bool]) -> Bool[Tensor, " row"]:
    return torch.tensor(wanted, dtype=torch.bool, device=batch.rollout.device)[batch.rollout]
