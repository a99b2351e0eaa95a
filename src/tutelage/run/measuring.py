"""How far student and teacher are apart on given responses: the numbers that evaluations and tables are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.models import LanguageModel
from tutelage.models.row_states import microbatches, row_states
from tutelage.objectives import measure
from tutelage.objectives.fused import STATISTICS, Budget
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

    def __init__(self, student: LanguageModel, teaching: Teaching, *, vocab: int, microbatch_tokens: int, chunk_mib: int) -> None:
        """Keep what is needed to measure; nothing is computed yet."""
        self._student, self._teaching, self._vocab = student, teaching, vocab
        self._tokens, self._budget = microbatch_tokens, Budget(chunk_mib=chunk_mib)

    @torch.no_grad()
    def __call__(self, rollouts: Sequence[Rollout]) -> Measurement:
        """Statistics for every token that somebody chose, under the student as it is now."""
        batch = StepBatch.of(rollouts).to(self._student.device)
        taught = self._teaching.score(batch)
        batch = taught.batch
        found = {name: torch.full((batch.num_rows,), torch.nan, device=batch.token.device) for name in STATISTICS}
        training = self._student.model.training
        self._student.model.eval()
        chosen = sorted(set(batch.rollout.tolist()))
        lengths = [len(rollouts[i].prompt_ids) + len(rollouts[i].response_ids) for i in chosen]
        for places in microbatches(lengths, budget_tokens=self._tokens):
            group = [chosen[place] for place in places]
            rows = batch.rows_of(group)
            part = measure(
                batch.select(rows),
                hidden=row_states(self._student, batch, group, prompts=[rollouts[i].prompt_ids for i in group]),
                head=self._student.head(self._vocab),
                teachers={name: signal.select(rows) for name, signal in taught.signals.items()},
                budget=self._budget,
            )
            for name, values in part.items():
                found[name][rows] = values
        self._student.model.train(training)
        return Measurement(batch=batch, statistics=found)
