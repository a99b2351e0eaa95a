"""From repetitions to figures: medians with their ranges, and ratios pair by pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Reading = Mapping[str, Any]
"""What a worker reported of one repetition, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Some repetitions of one figure."""

    median: float
    lowest: float
    highest: float

    def text(self, form: str = ".2f") -> str:
        """For people."""
        return f"{self.median:{form}} [{self.lowest:{form}}, {self.highest:{form}}]"


def spread(values: Sequence[float]) -> Spread:
    """Median and range."""
    return Spread(median=median(values), lowest=min(values), highest=max(values))


def of(readings: Sequence[Reading], name: str = "cpu_seconds") -> Spread | None:
    """One figure of all repetitions; None where there are none, or the system did not tell."""
    values = [reading[name] for reading in readings]
    return None if not values or None in values else spread(values)


def ratio(above: Sequence[Reading], below: Sequence[Reading], name: str = "cpu_seconds") -> Spread | None:
    """One side's figure over the other's, repetition by repetition, so that what else the machine did meets both."""
    pairs = [(one[name], other[name]) for one, other in zip(above, below, strict=True)]
    if not pairs or any(one is None or not other for one, other in pairs):
        return None
    return spread([one / other for one, other in pairs])
