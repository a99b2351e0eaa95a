"""The teacher's side of a step: supervision for the rows that can have it, counts for those that cannot."""

from dataclasses import dataclass
from typing import final

from tutelage.teachers import Teacher
from tutelage.training.measuring import Signals
from tutelage.types import StepBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Taught:
    """Rows that carry supervision, and what became of the others."""

    batch: StepBatch
    signals: Signals
    reasons: tuple[str, ...] = ()
    """What became of the teacher's context, one per rollout of the step; empty without a teacher."""

    @property
    def injected_fraction(self) -> float | None:
        """Share of rollouts whose teacher read the privileged context; None where the recipe has none."""
        told = [reason.startswith("injected") for reason in self.reasons if reason.startswith(("injected", "skipped"))]
        return sum(told) / len(told) if told else None


@final
class Teaching:
    """A teacher, if the recipe has one that scores, under the name that its terms use."""

    def __init__(self, teacher: Teacher | None, *, name: str = "teacher") -> None:
        """Wrap a teacher; None leaves every row as it is, for objectives that need no scores."""
        self.teacher, self._name = teacher, name

    def score(self, batch: StepBatch) -> Taught:
        """Score a step and drop the rows that the teacher cannot teach.

        Raises:
            TeacherError: No row at all could be taught, or a score is not finite.
        """
        if self.teacher is None:
            return Taught(batch=batch, signals={})
        scored = self.teacher.score(batch)
        if bool(scored.rows_taught.all()):
            return Taught(batch=batch, signals={self._name: scored.signal}, reasons=scored.reasons)
        rows = scored.rows_taught.nonzero().squeeze(-1)
        return Taught(batch=batch.select(rows), signals={self._name: scored.signal.select(rows)}, reasons=scored.reasons)
