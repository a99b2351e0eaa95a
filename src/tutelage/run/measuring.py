"""How far student and teacher are apart on given responses: the numbers that evaluations and tables are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from tutelage.models import LanguageModel
from tutelage.objectives.fused import Budget
from tutelage.training.measuring import measure_step
from tutelage.training.teaching import Teaching
from tutelage.types import Rollout, StepBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measurement:
    """Per-row statistics of some responses."""

    batch: StepBatch
    """The rows that could be measured."""
    statistics: dict[str, Float[Tensor, " row"]]

    def mean(self, name: str) -> float | None:
        """Mean over rows, in nats; None where no row has the statistic."""
        value = float(self.statistics[name].nanmean()) if self.batch.num_rows else float("nan")
        return value if value == value else None


@final
class Ruler:
    """Measures the student against its teacher at temperature 1, without a gradient."""

    def __init__(
        self, student: LanguageModel, teaching: Teaching, *, vocab: int, microbatch_tokens: int, chunk_mib: int
    ) -> None:
        """Keep what is needed to measure; nothing is computed yet."""
        self._student, self._teaching, self._vocab = student, teaching, vocab
        self._tokens, self._budget = microbatch_tokens, Budget(chunk_mib=chunk_mib)

    def __call__(self, rollouts: Sequence[Rollout]) -> Measurement:
        """Statistics for every token that somebody chose, under the student as it is now."""
        batch = StepBatch.of(rollouts).to(self._student.device)
        taught = self._teaching.score(batch)
        statistics = measure_step(
            self._student,
            taught.batch,
            taught.signals,
            vocab=self._vocab,
            budget_tokens=self._tokens,
            budget=self._budget,
        )
        return Measurement(batch=taught.batch, statistics=statistics)
