"""A published claim, in the form in which it can be measured here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tutelage.errors import ConfigError
from tutelage.lab.reproduction.metrics import metric_of
from tutelage.lab.reproduction.verdict import Direction


@dataclass(frozen=True, kw_only=True, slots=True)
class OfRun:
    """A number of optimiser steps, as a share of the run."""

    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the run's steps"


@dataclass(frozen=True, kw_only=True, slots=True)
class OfResponse:
    """A number of tokens, as a share of the task's longest response."""

    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the longest response"


Knob = bool | int | float | str | None | OfRun | OfResponse
"""A value that a knob is turned to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One row of the table."""

    method: str
    """Its canonical name."""
    task: str
    """The task that the claim maps to."""
    statement: str
    """What the paper says, in our words."""
    source: str
    """arXiv id, or where it was published."""
    metric: str = "accuracy"
    """What it is about."""
    direction: Direction = "higher"
    """What it says of the method against the baseline."""
    baseline: str = "opd"
    """The method that it is compared with."""
    knobs: Mapping[str, Knob] = field(default_factory=dict[str, Knob])
    """Turned away from the published defaults on this task, on top of those that `SETUPS` turns everywhere."""

    def __post_init__(self) -> None:
        metric_of(self.metric)
        if self.method == self.baseline:
            raise ConfigError(f"The claim of {self.method!r} on {self.task!r} compares the method with itself.")

    @property
    def command(self) -> str:
        """What reproduces the row."""
        return f"tutelage reproduce --method {self.method} --task {self.task}"
