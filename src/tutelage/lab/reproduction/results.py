"""The folder of results: one small file per run, found again by the job's name."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from tutelage.errors import CheckpointError
from tutelage.lab.reproduction.curves import Curve
from tutelage.lab.reproduction.jobs import Job
from tutelage.tracking.files import read_json_object, write_text

SUMMARY = "summary.json"
"""Lies beside the results and is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of a job."""

    job: Job
    kind: str = ""
    """Of the gradient's estimator: exact, score function or supervised."""
    notes: tuple[str, ...] = ()
    """What was fitted to the small world besides the knobs."""
    curve: Curve | None = None
    """None where the run failed."""
    teacher_accuracy: float | None = None
    """Greedy, on the same problems."""
    correct: str = ""
    """One character per held-out problem, `1` where the last greedy response is right."""
    seconds: float = 0.0
    """Wall time of everything, evaluations included."""
    packages: Mapping[str, str] | None = None
    """Versions that decide numbers."""
    failed: str | None = None
    """Why there is no curve."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "job": self.job.as_json(),
            "kind": self.kind,
            "notes": list(self.notes),
            "curve": self.curve.as_json() if self.curve else None,
            "teacher_accuracy": self.teacher_accuracy,
            "correct": self.correct,
            "seconds": round(self.seconds, 1),
            "packages": dict(self.packages) if self.packages else None,
            "failed": self.failed,
        }

    @staticmethod
    def of_json(content: Mapping[str, Any]) -> "Result":
        """The result that `as_json` wrote."""
        read = {
            "job": Job.of_json(content["job"]),
            "notes": tuple(content["notes"]),
            "curve": None if content["curve"] is None else Curve.of_json(content["curve"]),
        }
        return Result(**{**content, **read})


@final
@dataclass(frozen=True, slots=True)
class Results:
    """A folder of results."""

    folder: Path

    def read(self, job: Job) -> Result | None:
        """What came of a job; None where it has not run.

        Raises:
            CheckpointError: The file is damaged.
        """
        path = self._path(job)
        if not path.is_file():
            return None
        content = read_json_object(path)
        try:
            return Result.of_json(content)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{str(path)!r} is no result of the reproduction: {error}. Remove it and run again."
            ) from error

    def write(self, result: Result) -> None:
        """Keep a result, whole or not at all: numbers in a line each would make the file five times as long."""
        write_text(self._path(result.job), json.dumps(result.as_json(), separators=(",", ":"), allow_nan=False) + "\n")

    def files(self) -> Iterator[Path]:
        """Every result, by name."""
        yield from (path for path in sorted(self.folder.glob("*.json")) if path.name != SUMMARY)

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.name}.json"
