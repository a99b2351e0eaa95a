"""Two or more run folders, read and laid side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import ConfigError
from tutelage.tracking import wording
from tutelage.tracking.comparison.paired import Paired, paired_difference
from tutelage.tracking.comparison.prompts import Answers, answers
from tutelage.tracking.evaluation_table import Values, read_values
from tutelage.tracking.events import Interval
from tutelage.tracking.registry import Metric
from tutelage.tracking.registry import describe as metric_of
from tutelage.tracking.report.run import Run, load_all
from tutelage.tracking.rollout_table import RolloutRecord, read_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One run's end of a metric."""

    value: float
    interval: Interval | None
    paired: Paired | None
    """Against the first run; None for the first run itself, and where examples were not kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One metric of the last evaluations."""

    metric: Metric
    sides: tuple[Side | None, ...]
    """In the order of the runs; None where a run does not have the metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Runs side by side."""

    runs: tuple[Run, ...]
    """The first is the one that the others are compared with."""
    steps: tuple[int | None, ...]
    """Step of each run's last evaluation; None where it was never evaluated."""
    findings: tuple[Finding, ...]
    prompts: tuple[Answers, ...]
    """Held-out prompts that were written down in every run."""
    notes: tuple[str, ...]
    """What could not be compared, and why."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "runs": [
                {"name": run.name, "folder": str(run.folder.path), "evaluated_at_step": step, "curves": _curves(run)}
                for run, step in zip(self.runs, self.steps, strict=True)
            ],
            "metrics": {each.metric.name: [_side(side) for side in each.sides] for each in self.findings},
            "prompts": [each.as_json() for each in self.prompts],
            "notes": list(self.notes),
        }


def compare(paths: Sequence[Path | str]) -> Comparison:
    """Read runs and compare their last evaluations; needs at least two.

    Raises:
        ConfigError: Fewer than two runs were named.
        CheckpointError: A folder is not a run's, or a file in it is damaged.
    """
    if len(paths) < 2:
        raise ConfigError(f"A comparison needs at least two runs, got {len(paths)}. tutelage report shows a single one.")
    runs = load_all(paths)
    steps = [_last_evaluation(run) for run in runs]
    values = [_values(run, step) for run, step in zip(runs, steps, strict=True)]
    tables = [_table(run, step) for run, step in zip(runs, steps, strict=True)]
    names = dict.fromkeys(name for run in runs for name in run.metrics if name.startswith("eval/"))
    whole = [table for table in tables if table is not None]
    return Comparison(
        runs=tuple(runs),
        steps=tuple(steps),
        findings=tuple(_finding(name, runs, values) for name in names),
        prompts=tuple(answers(whole)) if len(whole) == len(runs) else (),
        notes=tuple(_notes(runs, steps, values, tables)),
    )


def _finding(name: str, runs: Sequence[Run], values: Sequence[Values | None]) -> Finding:
    first = (values[0] or {}).get(name)
    sides: list[Side | None] = []
    for place, (run, found) in enumerate(zip(runs, values, strict=True)):
        series, own = run.series(name), (found or {}).get(name)
        if not series.steps:
            sides.append(None)
            continue
        paired = None
        if place > 0 and first is not None and own is not None and first.keys() & own.keys():
            paired = paired_difference(first, own)
        sides.append(Side(value=series.values[-1], interval=series.intervals[-1], paired=paired))
    return Finding(metric=metric_of(name), sides=tuple(sides))


def _last_evaluation(run: Run) -> int | None:
    return max((step for name in run.metrics if name.startswith("eval/") for step in run.series(name).steps), default=None)


def _values(run: Run, step: int | None) -> Values | None:
    path = run.folder.evaluation_files().get(-1 if step is None else step)
    return None if path is None else read_values(path)


def _table(run: Run, step: int | None) -> Sequence[RolloutRecord] | None:
    path = run.folder.evaluation_rollout_files().get(-1 if step is None else step)
    return None if path is None else read_table(path)


def _notes(
    runs: Sequence[Run], steps: Sequence[int | None], values: Sequence[Values | None], tables: Sequence[Any]
) -> list[str]:
    found: list[str] = []
    for run, step, kept, table in zip(runs, steps, values, tables, strict=True):
        if step is None:
            found.append(f"{run.name} was never evaluated: give it evaluation data and run it again.")
        elif kept is None:
            found.append(f"{run.name} kept no results by example, so its differences have no interval: run it again.")
        elif table is None:
            found.append(f"{run.name} wrote down no held-out responses (evaluation.written is 0).")
    first, *others = [set().union(*(by.keys() for by in kept.values())) if kept else set[str]() for kept in values]
    for run, examples in zip(runs[1:], others, strict=True):
        if first and examples and first != examples:
            shared = wording.count(len(first & examples), "held-out example")
            found.append(f"{run.name} shares {shared} with {runs[0].name}; differences are over these alone.")
    return found


def _curves(run: Run) -> Mapping[str, Any]:
    return {
        name: {"steps": list(series.steps), "values": list(series.values)}
        for name, series in run.metrics.items()
        if name.startswith("eval/")
    }


def _side(side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    paired = side.paired
    return {
        "value": side.value,
        "interval": list(side.interval) if side.interval else None,
        "difference": paired.difference if paired else None,
        "difference_interval": list(paired.interval) if paired else None,
        "num_shared": paired.num_shared if paired else None,
    }
