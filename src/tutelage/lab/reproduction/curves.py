"""What a finished run is to the table: a few evaluations along its way."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tutelage.errors import DataError

Interval = tuple[float, float]
"""Lower and upper end of a 95 % interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One evaluation of a run, on held-out problems."""

    step: int
    """Optimiser steps taken."""
    tokens: int
    """Response tokens written so far, whoever wrote them."""
    trained: int
    """Tokens that carried supervision so far."""
    seconds: float
    """Wall time of the training steps so far, without evaluations."""
    accuracy: float
    """Of greedy responses, in 0..1."""
    interval: Interval
    """Of the accuracy, over problems."""
    reverse_kl: float
    """KL(student || the task's teacher) on the student's own sampled responses, nats per token."""
    forward_kl: float
    """KL(the task's teacher || student) on the same tokens, nats per token."""
    entropy: float
    """Of the student on the same tokens, nats per token."""
    length: float
    """Mean tokens of a sampled response."""
    coverage: float | None = None
    """pass@k of sampled responses, in 0..1; only at the end."""
    slices: Mapping[str, float] = field(default_factory=dict[str, float])
    """Greedy accuracy by class of problem."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The evaluations of a run in order, the first of them before the first step."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        steps = [point.step for point in self.points]
        if not steps or steps != sorted(set(steps)):
            raise DataError(f"A curve needs evaluations at rising steps, got {steps}. Remove the result and run it again.")

    @property
    def start(self) -> Point:
        """The first evaluation."""
        return self.points[0]

    @property
    def end(self) -> Point:
        """The last evaluation."""
        return self.points[-1]

    def accuracy_at(self, tokens: float | int) -> float:
        """Accuracy after so many tokens, linear between evaluations and constant after the last."""
        for before, after in zip(self.points, self.points[1:], strict=False):
            if tokens <= after.tokens:
                span = after.tokens - before.tokens
                share = (tokens - before.tokens) / span if span else 1.0
                return before.accuracy + share * (after.accuracy - before.accuracy)
        return self.end.accuracy

    def tokens_to(self, accuracy: float) -> float:
        """Tokens until the accuracy is first reached, linear between evaluations; infinite where it never is."""
        for before, after in zip(self.points, self.points[1:], strict=False):
            if before.accuracy >= accuracy:
                return float(before.tokens)
            if after.accuracy >= accuracy:
                share = (accuracy - before.accuracy) / (after.accuracy - before.accuracy)
                return before.tokens + share * (after.tokens - before.tokens)
        return float(self.end.tokens) if self.end.accuracy >= accuracy else float("inf")

    def mean_accuracy(self) -> float:
        """Accuracy averaged over the steps of the run, by the trapezoidal rule."""
        if len(self.points) == 1:
            return self.start.accuracy
        pairs = list(zip(self.points, self.points[1:], strict=False))
        area = sum(0.5 * (before.accuracy + after.accuracy) * (after.step - before.step) for before, after in pairs)
        return area / (self.end.step - self.start.step)

    def as_json(self) -> list[dict[str, Any]]:
        """Plain values, rounded to what the table needs."""
        return [_rounded(asdict(point)) for point in self.points]

    @staticmethod
    def of_json(points: Sequence[Mapping[str, Any]]) -> "Curve":
        """The curve that `as_json` wrote.

        Raises:
            DataError: The values are no evaluations.
        """
        try:
            return Curve(points=tuple(Point(**{**point, "interval": tuple(point["interval"])}) for point in points))
        except (TypeError, KeyError) as error:
            raise DataError(f"A result's curve cannot be read: {error}. Remove the file and run it again.") from error


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(part) for part in value]
    return value
