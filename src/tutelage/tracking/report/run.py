"""A run as the report sees it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutelage.tracking import events
from tutelage.tracking.events import Event, Interval
from tutelage.tracking.run_folder import RunFolder

_PASS, _AVERAGE = "eval/pass_at_k_fraction", "eval/avg_at_k_fraction"


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over the run; numbers that are not finite are left out."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    intervals: tuple[Interval | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a run folder holds, read once."""

    name: str
    folder: RunFolder
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Mapping[str, Series]
    """By name, in the order in which they first occurred."""
    steps: int
    """Optimiser steps taken."""
    seconds: float
    """Wall time until the last event."""

    def series(self, name: str) -> Series:
        """One metric over the run; empty where the run has not logged it."""
        return self.metrics.get(name, Series(steps=(), values=(), intervals=()))

    def measured(self, name: str) -> bool:
        """Whether the run has the metric and it says something of its own: at k = 1, pass@k is avg@k again."""
        found = self.series(name)
        return bool(found.steps) and not (name == _PASS and found.values == self.series(_AVERAGE).values)

    def setting(self, path: str) -> Any:
        """A value of the configuration by its dotted path; None where there is none."""
        found: Any = self.config
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


def load(path: Path | str) -> Run:
    """Read a run folder.

    Raises:
        CheckpointError: It is no run folder, or a file in it is damaged.
    """
    folder = RunFolder.open_existing(path)
    found = events.read(folder.metrics_file)
    return Run(
        name=folder.name,
        folder=folder,
        config=folder.config(),
        environment=folder.environment(),
        metrics=_metrics(found),
        steps=max((event.step for event in found), default=0),
        seconds=found[-1].time_seconds if found else 0.0,
    )


def _metrics(found: Sequence[Event]) -> dict[str, Series]:
    columns: dict[str, list[tuple[int, float, Interval | None]]] = {}
    for event in found:
        for name, value in event.metrics.items():
            if math.isfinite(value):
                columns.setdefault(name, []).append((event.step, value, event.intervals.get(name)))
    return {name: Series(*zip(*points, strict=True)) for name, points in columns.items()}


def load_all(paths: Sequence[Path | str]) -> list[Run]:
    """Read several run folders and name them such that they can be told apart."""
    runs = [load(path) for path in paths]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.folder.path.resolve().parent.name}/{run.name}" for run in runs]
    unique = [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]
    return [replace(run, name=name) for name, run in zip(unique, runs, strict=True)]
