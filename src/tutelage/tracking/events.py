"""`metrics.jsonl`: one event a line, appended while the run goes on, cut back when it resumes."""

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from tutelage.errors import CheckpointError
from tutelage.tracking import registry
from tutelage.tracking.files import unwritable
from tutelage.tracking.run_folder import RunFolder
from tutelage.tracking.sinks import Sink

_LOG = logging.getLogger(__name__)

Kind = Literal["train", "eval"]
"""Whether an event tells of an optimiser step or of an evaluation."""
Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One line of `metrics.jsonl`."""

    step: int
    """Optimiser steps taken."""
    time_seconds: float
    """Since the run began; the time between an interruption and its resumption does not count."""
    kind: Kind
    metrics: dict[str, float]
    """Names from the registry; NaN where the number was not finite."""
    intervals: dict[str, Interval] = field(default_factory=dict[str, Interval])
    """95 % intervals of some of the metrics."""


@final
class Tracker:
    """Writes events to the run folder and to any further sinks."""

    def __init__(self, folder: RunFolder, *, sinks: Sequence[Sink] = (), resumed_step: int | None = None) -> None:
        """Open the file for appending.

        Args:
            folder: Of the run.
            sinks: Further places that metrics go to.
            resumed_step: Steps taken by the checkpoint that the run resumes from: later events, rollout tables and a line that
                was cut off are dropped, because they will be written again. None for a new run.

        Raises:
            CheckpointError: A new run's file has events already, or the file cannot be written.
        """
        self._path, self._sinks = folder.metrics_file, tuple(sinks)
        kept = [] if resumed_step is None else _rewind(folder, resumed_step)
        self._earlier = kept[-1].time_seconds if kept else 0.0
        self._began = time.monotonic()
        try:
            self._file = self._path.open("ab", buffering=0)
            self._end = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise unwritable(self._path, error) from error
        if resumed_step is None and self._end > 0:
            self._file.close()
            raise CheckpointError(
                f"{str(self._path)!r} has events of an earlier run, and a new one would mix with them. Continue that run with "
                "--resume, or choose another --output."
            )

    def log(
        self,
        step: int,
        metrics: Mapping[str, float | int],
        *,
        kind: Kind = "train",
        intervals: Mapping[str, Interval] | None = None,
    ) -> Event:
        """Append one event.

        Args:
            step: Optimiser steps taken.
            metrics: Names from the registry. A number that is not finite is written as null.
            kind: What the event tells of.
            intervals: 95 % intervals of some of the metrics.

        Raises:
            ConfigError: A name is not in the registry.
            CheckpointError: The line could not be written. What was written before is intact.
        """
        registry.check(metrics)
        event = Event(
            step=step,
            time_seconds=round(self._earlier + time.monotonic() - self._began, 3),
            kind=kind,
            metrics={name: float(value) for name, value in metrics.items()},
            intervals={name: (float(low), float(high)) for name, (low, high) in (intervals or {}).items()},
        )
        self._append(_line(event))
        finite = {name: value for name, value in event.metrics.items() if math.isfinite(value)}
        for sink in self._sinks:
            sink.log(finite, step=step)
        return event

    def close(self) -> None:
        """Close the file and the sinks."""
        self._file.close()
        for sink in self._sinks:
            sink.finish()

    def _append(self, line: bytes) -> None:
        try:
            sent = 0
            while sent < len(line):
                sent += self._file.write(line[sent:])
        except OSError as error:
            with suppress(OSError):  # half a line stays where even cutting fails; readers know how to ignore it
                self._file.truncate(self._end)
            raise unwritable(self._path, error) from error
        self._end += sent


def read(path: Path) -> list[Event]:
    """The events of a run in the order in which they were written; none where the file is missing.

    A last line without its end, which a killed run leaves, is ignored with a warning.

    Raises:
        CheckpointError: Another line cannot be read; names its number.
    """
    return [event for event, _ in _read(path)]


def _read(path: Path) -> list[tuple[Event, int]]:
    """Events, each with the position in the file at which its line ends."""
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    found: list[tuple[Event, int]] = []
    end = 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        end += len(line)
        if not line.endswith(b"\n"):
            _LOG.warning("Ignoring line %d of %s: it was being written when the run ended.", number, path.name)
        elif line.strip():
            found.append((_event(line, path, number), end))
    return found


def _rewind(folder: RunFolder, step: int) -> list[Event]:
    """Drop what was written after a step; a run that resumes at 0 evaluates again, so nothing is kept of it."""
    path = folder.metrics_file
    kept = [(event, end) for event, end in _read(path) if step > 0 and event.step <= step]
    try:
        folder.drop_tables_after(step)
        if path.exists():
            os.truncate(path, kept[-1][1] if kept else 0)
    except OSError as error:
        raise unwritable(path, error) from error
    return [event for event, _ in kept]


def _line(event: Event) -> bytes:
    content: dict[str, Any] = {
        "step": event.step,
        "time_seconds": event.time_seconds,
        "kind": event.kind,
        "metrics": {name: value if math.isfinite(value) else None for name, value in event.metrics.items()},
    }
    if event.intervals:
        content["intervals"] = {name: list(interval) for name, interval in event.intervals.items()}
    return json.dumps(content, allow_nan=False).encode() + b"\n"


def _event(line: bytes, path: Path, number: int) -> Event:
    try:
        content = json.loads(line)
        return Event(
            step=int(content["step"]),
            time_seconds=float(content["time_seconds"]),
            kind=content["kind"],
            metrics={name: math.nan if value is None else float(value) for name, value in content["metrics"].items()},
            intervals={name: (float(low), float(high)) for name, (low, high) in content.get("intervals", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"Line {number} of {str(path)!r} is no event ({type(error).__name__}: {error}). The file was changed by something "
            "else, or the disk is damaged: remove that line to read the rest."
        ) from error
