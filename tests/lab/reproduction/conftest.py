"""Results without runs: curves that rise as a test says."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tutelage.lab.reproduction.curves import Curve, Point
from tutelage.lab.reproduction.jobs import Job
from tutelage.lab.reproduction.results import Result


def point(step: int, accuracy: float, *, tokens: int | None = None, **more: Any) -> Point:
    values = {"seconds": float(step), "reverse_kl": 0.5, "forward_kl": 0.4, "entropy": 0.3, "length": 20.0, "trained": 5 * step}
    interval = (max(accuracy - 0.1, 0.0), min(accuracy + 0.1, 1.0))
    return Point(
        step=step, tokens=10 * step if tokens is None else tokens, accuracy=accuracy, interval=interval, **{**values, **more}
    )


def curve(*accuracies: float, tokens: int = 10) -> Curve:
    """Evaluations ten steps apart, with so many tokens in each step."""
    return Curve(points=tuple(point(10 * i, accuracy, tokens=10 * i * tokens) for i, accuracy in enumerate(accuracies)))


class Runner:
    """Stands for the pool: answers every job with a curve that ends where `ends_at` says, and keeps what was asked."""

    def __init__(self, ends_at: Callable[[Job], float | str], begins_at: Callable[[Job], float] = lambda job: 0.1) -> None:
        self.ends_at, self.begins_at, self.asked = ends_at, begins_at, list[Job]()
        self.models = list[tuple[str, str, int]]()

    def __call__(self, messages: Sequence[dict[str, Any]], done: Callable[[Any, Any], None], *, jobs: int) -> None:
        for message in messages:
            if "model" in message:
                self.models.append(message["model"])
                done(message, {})
                continue
            job = Job.of_json(message["job"])
            self.asked.append(job)
            end = self.ends_at(job)
            ended = (
                Result(job=job, failed=end) if isinstance(end, str) else Result(job=job, curve=curve(self.begins_at(job), end))
            )
            done(message, {"result": ended.as_json()})


@pytest.fixture
def rising() -> Callable[..., Curve]:
    return curve
