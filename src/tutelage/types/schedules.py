"""How a setting moves over training."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import Any, Literal

from tutelage.errors import ConfigError
from tutelage.types.parts import parts


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Phases:
    """One value after another, each from an optimiser step on."""

    kind: Literal["phases"] = "phases"
    values: tuple[float, ...]
    """The first holds from the beginning."""
    starts: tuple[int, ...]
    """Step, counted from 0, from which each further value holds; one fewer than the values, rising."""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.starts) + 1 or list(self.starts) != sorted({step for step in self.starts if step > 0}):
            raise ConfigError(
                f"Phases needs one start fewer than values, each above 0 and above the one before it, got {len(self.values)} "
                f"values and starts {self.starts!r}."
            )

    def __call__(self, step: int) -> float:
        """Value at an optimiser step, counted from 0."""
        return self.values[sum(start <= step for start in self.starts)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Controlled:
    """A setting that something outside of the recipe's schedules moves, such as a rule that looks at finished steps."""

    kind: Literal["controlled"] = "controlled"
    name: str
    """Under which whoever moves it gives its value."""
    start: float
    """Value until then."""


Scalar = float | Linear | Cosine | Phases
"""A setting that stays, or one that moves with the steps."""

_UNCONTROLLED: Mapping[str, float] = {}


def value_at(setting: Scalar | Controlled, step: int, controls: Mapping[str, float] = _UNCONTROLLED) -> float:
    """The setting's value at an optimiser step; `controls` holds those of controlled settings, by name."""
    if isinstance(setting, Controlled):
        return controls.get(setting.name, setting.start)
    return setting(step) if isinstance(setting, Linear | Cosine | Phases) else setting


def range_of(setting: Scalar | Controlled) -> tuple[float, ...]:
    """Values between which a setting stays; of a controlled one only the first is known."""
    match setting:
        case Controlled(start=start):
            return (start,)
        case Linear(start=start, end=end) | Cosine(start=start, end=end):
            return start, end
        case Phases(values=values):
            return values
        case _:
            return (setting,)


def controlled_in(part: Any) -> dict[str, float]:
    """The controlled settings anywhere in a part, by name, with the values that they start with."""
    return {each.name: each.start for each in parts(part) if isinstance(each, Controlled)}


def _check(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"A schedule needs steps >= 1, got {steps!r}.")
