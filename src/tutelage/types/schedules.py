"""How a setting moves over training."""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

from tutelage.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """A straight line from `start` to `end` over `steps` optimiser steps, then `end`."""

    kind: Literal["linear"] = "linear"
    start: float
    end: float
    steps: int
    """Length of the ramp in optimiser steps."""

    def __post_init__(self) -> None:
        _check(self.steps)

    def __call__(self, step: int) -> float:
        """Value at an optimiser step, counted from 0."""
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine:
    """Half a cosine from `start` to `end` over `steps` optimiser steps, then `end`."""

    kind: Literal["cosine"] = "cosine"
    start: float
    end: float
    steps: int
    """Length of the ramp in optimiser steps."""

    def __post_init__(self) -> None:
        _check(self.steps)

    def __call__(self, step: int) -> float:
        """Value at an optimiser step, counted from 0."""
        return self.end + (self.start - self.end) * 0.5 * (1.0 + cos(pi * min(step / self.steps, 1.0)))


Scalar = float | Linear | Cosine
"""A setting that stays, or one that moves."""


def value_at(setting: Scalar, step: int) -> float:
    """The setting's value at an optimiser step."""
    return setting(step) if isinstance(setting, Linear | Cosine) else setting


def _check(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"A schedule needs steps >= 1, got {steps!r}.")
