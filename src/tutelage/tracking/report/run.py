"""A run as the report sees it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.tracking import events
from tutelage.tracking.events import Event, Interval
from tutelage.tracking.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
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
    events: tuple[Event, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names that the run logged, in the order in which they first occurred."""
        return tuple(dict.fromkeys(name for event in self.events for name in event.metrics))

    @property
    def steps(self) -> int:
        """Optimiser steps taken."""
        return max((event.step for event in self.events), default=0)

    @property
    def seconds(self) -> float:
        """Wall time until the last event."""
        return self.events[-1].time_seconds if self.events else 0.0

    def series(self, name: str) -> Series:
        """One metric over the run."""
        found = [event for event in self.events if math.isfinite(event.metrics.get(name, math.nan))]
        return Series(
            steps=tuple(event.step for event in found),
            values=tuple(event.metrics[name] for event in found),
            intervals=tuple(event.intervals.get(name) for event in found),
        )

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
    return Run(
        name=folder.name,
        folder=folder,
        config=folder.config(),
        environment=folder.environment(),
        events=tuple(events.read(folder.metrics_file)),
    )


def load_all(paths: Sequence[Path | str]) -> list[Run]:
    """Read several run folders and name them such that they can be told apart."""
    runs = [load(path) for path in paths]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.folder.path.resolve().parent.name}/{run.name}" for run in runs]
    unique = [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]
    return [
        Run(name=name, folder=run.folder, config=run.config, environment=run.environment, events=run.events)
        for name, run in zip(unique, runs, strict=True)
    ]
