"""The teachers' side of a step: supervision for the rows that can have it, counts for those that cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, cast, final

import torch

from tutelage.models import LanguageModel
from tutelage.objectives.compositions import AnyComposition
from tutelage.recipes.recipe import MAIN_TEACHER
from tutelage.teachers import CacheUse, Scorer
from tutelage.training.measuring import Signals, select
from tutelage.types import ComposedSignal, FullSignal, StepBatch, TeacherSignal


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Taught:
    """Rows that carry supervision, and what became of the others."""

    batch: StepBatch
    signals: Signals
    reasons: tuple[str, ...] = ()
    """What became of the context of the recipe's own teacher, one per rollout of the step; empty without one."""
    cache: CacheUse | None = None
    """Of all teachers behind a cache together; None without one."""

    @property
    def injected_fraction(self) -> float | None:
        """Share of rollouts whose teacher read the privileged context; None where the recipe has none."""
        told = [reason.startswith("injected") for reason in self.reasons if reason.startswith(("injected", "skipped"))]
        return sum(told) / len(told) if told else None


@final
class Teaching:
    """The teachers of a recipe that score, under the names that its terms use."""

    def __init__(
        self,
        teacher: Scorer | None,
        *,
        references: Mapping[str, Scorer] | None = None,
        compositions: Mapping[str, AnyComposition] | None = None,
        keep_untaught: bool = False,
    ) -> None:
        """Wrap the recipe's own teacher, its references and what is composed of them; without any, every row stays as it is.

        Args:
            teacher: The recipe's own.
            references: Further ones, by name.
            compositions: What is made of them, by name.
            keep_untaught: Keep rows that nobody could teach: some term needs no teacher.
        """
        self.teachers = ({} if teacher is None else {MAIN_TEACHER: teacher}) | dict(references or {})
        self._compositions, self._keep = dict(compositions or {}), keep_untaught

    def score(self, batch: StepBatch) -> Taught:
        """Score a step, note which rows each teacher could teach, and drop those that carry no supervision at all.

        Raises:
            TeacherError: A teacher whose context lies in the data could teach no row, or a score is not finite.
        """
        scored = {name: teacher.score(batch) for name, teacher in self.teachers.items()}
        signals: dict[str, TeacherSignal] = {name: found.signal for name, found in scored.items()}
        for name, composition in self._compositions.items():
            parts = {part: cast(FullSignal, scored[part].signal) for part in composition.parts}  # a recipe takes no others
            signals[name] = ComposedSignal(parts=parts, composition=composition)
        reasons = scored[MAIN_TEACHER].reasons if MAIN_TEACHER in scored else ()
        taught = {name: found.rows_taught for name, found in scored.items()}
        for name, composition in self._compositions.items():
            taught[name] = torch.stack([taught[part] for part in composition.parts]).all(dim=0)
        cache = _together([found.cache for found in scored.values()])
        if not all(bool(mask.all()) for mask in taught.values()):
            batch = replace(batch, taught=taught)
            if not self._keep:
                rows = torch.stack(list(taught.values())).any(dim=0).nonzero().squeeze(-1)
                batch, signals = batch.select(rows), select(signals, rows)
        return Taught(batch=batch, signals=signals, reasons=reasons, cache=cache)

    def update(self, student: LanguageModel) -> None:
        """Let each teacher move with the student, after an optimiser step."""
        for teacher in self.teachers.values():
            teacher.update(student)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the teachers."""
        return {name: teacher.state_dict() for name, teacher in self.teachers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put every teacher back to where a checkpoint was written."""
        for name, teacher in self.teachers.items():
            teacher.load_state_dict(state[name])


def _together(uses: Sequence[CacheUse | None]) -> CacheUse | None:
    kept = [use for use in uses if use is not None]
    return reduce(add, kept) if kept else None
