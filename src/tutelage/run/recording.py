"""Where finished steps and evaluations go: metrics, tables of rollouts, the terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import nan
from typing import Protocol, final, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from tutelage.diagnostics import rollout_metrics, signal_metrics, staleness_metrics
from tutelage.evaluation import EvaluationResult, Judged
from tutelage.evaluation.summary import Measurement
from tutelage.teachers import CacheUse
from tutelage.tracking import RunFolder, Tracker
from tutelage.tracking.evaluation_table import write_values
from tutelage.tracking.progress import RunProgress
from tutelage.tracking.rollout_table import RolloutRecord, pieces, write_table
from tutelage.training.loop import StepRecord
from tutelage.training.settings import LoggingSettings, OptimiserSettings
from tutelage.types import Author, Rollout, StepBatch, Verdict

_COLUMNS = {
    "student_log_probs": "student_log_prob",
    "teacher_log_probs": "teacher_log_prob",
    "reverse_kl_nats": "reverse_kl_nats",
    "forward_kl_nats": "forward_kl_nats",
    "student_entropy_nats": "student_entropy_nats",
    "weights": "token_weight",
}
"""Column of a rollout table -> per-row statistic."""

Gauge = Callable[[], Mapping[str, float]]
"""Metrics that a part of the run has to tell at the end of a step; empty where it has none."""


@runtime_checkable
class Gauged(Protocol):
    """A part of the run with metrics of its own, such as one that lies behind a server."""

    def figures(self) -> Mapping[str, float]:
        """See `Gauge`."""
        ...


MAX_TABLE_ROLLOUTS = 64
"""Rollouts of a step that are written down; a table is for reading, not for training on."""


@final
class RunRecorder:
    """Writes a run down while it goes on."""

    def __init__(
        self,
        folder: RunFolder,
        tracker: Tracker,
        progress: RunProgress,
        *,
        logging: LoggingSettings,
        optimiser: OptimiserSettings,
        num_steps: int,
        decode: Callable[[list[int]], str],
        gauges: Sequence[Gauge] = (),
    ) -> None:
        """Keep the places to write to; `decode` shows special tokens, because tables are for looking closely."""
        self._gauges = tuple(gauges)
        self._folder, self._tracker, self._progress = folder, tracker, progress
        self._logging, self._optimiser, self._num_steps, self._decode = logging, optimiser, num_steps, decode

    def wants_statistics(self, step: int) -> bool:
        """Whether per-token statistics of a step will be written down."""
        return step % self._logging.statistics_every == 0 or self._table_due(step)

    def record(self, record: StepRecord) -> None:
        """Log a step, show it, and write its table where one is due."""
        metrics = self._step_metrics(record)
        self._tracker.log(record.step, metrics)
        self._progress.update(record.step, metrics)
        if self._table_due(record.step):
            kept = range(min(len(record.rollouts), MAX_TABLE_ROLLOUTS))
            write_table(self._folder.rollout_file(record.step), [self._row(record, index) for index in kept])
            shown = record.rollouts[: self._logging.show_rollouts]
            prompts = [self._decode(rollout.prompt_ids.tolist()) for rollout in shown]
            self._progress.show_rollouts(prompts, [rollout.text for rollout in shown])

    def record_evaluation(self, step: int, result: EvaluationResult, *, seconds: float) -> None:
        """Log an evaluation with its intervals, and write down what it found prompt by prompt and token by token."""
        write_values(self._folder.evaluation_file(step), result.prompts)
        if result.written is not None:
            self._write_evaluated(step, result.written, result.measured)
        metrics = result.metrics | {"time/evaluation_seconds": seconds}
        self._tracker.log(step, metrics, kind="eval", intervals=result.intervals)
        self._progress.update(step, metrics)

    def _table_due(self, step: int) -> bool:
        every = self._logging.rollouts_every
        return step in (1, self._num_steps) or (every > 0 and step % every == 0)

    def _step_metrics(self, record: StepRecord) -> dict[str, float]:
        update, batch = record.update, record.taught.batch
        written, seconds = sum(len(rollout.response_ids) for rollout in record.rollouts), record.wall_seconds
        bound = self._optimiser.gradient_clip
        metrics = {
            "train/loss_nats": update.loss,
            "train/gradient_norm": update.gradient_norm,
            "train/gradient_clipped_fraction": float(bound > 0.0 and update.gradient_norm > bound),
            "train/learning_rate": update.learning_rate,
            "train/tokens": float(written),
            "train/rows": float(batch.num_rows),
            "train/tokens_per_second": written / max(seconds, 1e-9),
            "train/seconds_per_step": seconds,
            "train/skipped_rollouts_fraction": 1.0 - len(batch.rollout.unique()) / len(record.rollouts),
        }
        metrics |= {f"term/{name}/loss_nats": loss for name, loss in update.terms.items()}
        metrics |= {f"term/{name}/weight_fraction": weight for name, weight in update.weights.items()}
        metrics |= {f"time/{name}_seconds": spent for name, spent in record.seconds.items()}
        if record.taught.injected_fraction is not None:
            metrics["context/injected_fraction"] = record.taught.injected_fraction
        metrics |= _cache_metrics(record.taught.cache)
        metrics |= record.controls
        for gauge in self._gauges:
            metrics |= gauge()
        if record.waits is not None:
            metrics |= {f"pipeline/{name}": float(value) for name, value in asdict(record.waits).items()}
        metrics |= signal_metrics(batch, update.statistics) | rollout_metrics(record.rollouts, record.verdicts)
        return metrics | staleness_metrics(record.rollouts, steps_taken=record.step - 1)

    def _row(self, record: StepRecord, index: int) -> RolloutRecord:
        reasons = record.taught.reasons
        return self._record(
            record.rollouts[index],
            record.verdicts[index],
            step=record.step,
            columns=_token_columns(record.rollouts[index], index, record.taught.batch, record.update.statistics),
            context=reasons[index] if reasons else None,
        )

    def _write_evaluated(self, step: int, judged: Judged, measured: Measurement | None) -> None:
        records = [
            self._record(
                rollout,
                verdict,
                step=step,
                columns=_token_columns(rollout, index, measured.batch, measured.statistics) if measured is not None else {},
            )
            for index, (rollout, verdict) in enumerate(zip(judged.rollouts, judged.verdicts, strict=True))
        ]
        write_table(self._folder.evaluation_rollout_file(step), records)

    def _record(
        self, rollout: Rollout, verdict: Verdict, *, step: int, columns: dict[str, list[float]], context: str | None = None
    ) -> RolloutRecord:
        ids = rollout.response_ids.tolist()
        return RolloutRecord(
            step=step,
            group=rollout.group,
            example_id=rollout.example.id,
            prompt=self._decode(rollout.prompt_ids.tolist()),
            response=rollout.text,
            finish=rollout.finish,
            token_ids=ids,
            tokens=pieces(ids, self._decode),
            authors=[Author(author).name.lower() for author in rollout.authors.tolist()],
            behaviour_log_probs=rollout.behaviour_log_probs.tolist(),
            prompt_ids=rollout.prompt_ids.tolist(),
            answer=rollout.example.answer,
            reward=verdict.reward,
            correct=verdict.correct,
            feedback=verdict.feedback,
            context=context,
            **columns,
        )


def _cache_metrics(use: CacheUse | None) -> dict[str, float]:
    if use is None or use.looked_up == 0:
        return {}
    return {"cache/found_fraction": use.found / use.looked_up, "cache/asked_responses": float(use.asked)}


def _token_columns(
    rollout: Rollout, index: int, batch: StepBatch, statistics: Mapping[str, Float[Tensor, " row"]]
) -> dict[str, list[float]]:
    """What was measured at each token of one rollout of a batch."""
    rows = batch.rows_of([index])
    places, length = batch.position[rows].tolist(), len(rollout.response_ids)
    return {
        column: _spread(statistics[name][rows].tolist(), places, length)
        for column, name in _COLUMNS.items()
        if name in statistics
    }


def _spread(values: Sequence[float], places: Sequence[int], length: int) -> list[float]:
    """Values of some tokens at their places in the response, NaN elsewhere."""
    found = [nan] * length
    for place, value in zip(places, values, strict=True):
        found[place] = value
    return found
