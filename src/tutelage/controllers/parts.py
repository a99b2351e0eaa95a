"""Rules that look at finished steps and move a setting or the weights: a recipe holds them by name."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError
from tutelage.types import VerdictField


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignedWindow:
    """Widens or narrows a window on the response until its gradient points where that of the whole response points.

    Every so many steps a few whole responses are written to the prompts of the next step. The cosine between the objective's
    gradient on their first h tokens and its gradient on all of them is averaged, older cosines with less weight. A window whose
    average is low is multiplied by `growth`, one whose average is high divided by it; what was measured of another window is
    then forgotten.

    Reference: adwin, arXiv:2605.28396. The paper has the delayed probe, the average and its age, and that the window grows and
    shrinks; the numbers are ours.
    """

    kind: Literal["aligned_window"] = "aligned_window"
    control: str = "horizon"
    """Name of the controlled setting that is the window, in tokens."""
    every: int = 20
    """Optimiser steps between probes."""
    responses: int = 8
    """Whole responses of a probe, at least; the groups of a recipe with n > 1 stay whole."""
    low: float = 0.7
    """Cosine below which the window grows."""
    high: float = 0.95
    """Cosine above which it shrinks."""
    growth: float = 1.5
    """Factor of either."""
    memory: float = 0.5
    """Weight of what was known before in the average, for each `every` steps of its age."""
    smallest: int = 16
    """Narrowest window, in tokens."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.responses < 1 or self.smallest < 1 or self.growth <= 1.0 or not 0.0 <= self.memory < 1.0:
            raise ConfigError(
                "AlignedWindow needs every, responses and smallest of at least 1, growth > 1 and 0 <= memory < 1, got "
                f"{self.every!r}, {self.responses!r}, {self.smallest!r}, {self.growth!r} and {self.memory!r}."
            )
        if not -1.0 <= self.low <= self.high <= 1.0:
            raise ConfigError(f"AlignedWindow needs -1 <= low <= high <= 1, got low {self.low!r} and high {self.high!r}.")

    @property
    def moves(self) -> str | None:
        """Name of the setting that it moves."""
        return self.control


@dataclass(frozen=True, kw_only=True, slots=True)
class Extrapolation:
    """Goes on in the direction that the weights have taken, as long as that helps on a few problems.

    After 1, 2, 4, 8, ... optimiser steps: with `base` the weights after the last such point, the weights become
    theta + f (theta - base). If the accuracy on the problems rises, that stands, f becomes f / (1 + f) and it goes on from
    there; else the weights before the trial are put back bit for bit. With f = 2 and D the first difference the points
    tried are base + 3 D, 5 D, 7 D, 9 D, 11 D. The optimiser's running means are left as they are.

    Reference: effopd, arXiv:2605.11739.
    """

    kind: Literal["extrapolation"] = "extrapolation"
    factor: float = 2.0
    """f of the first trial."""
    trials: int = 5
    """Most trials at a time."""
    num_prompts: int = 64
    """Training prompts, the first of the data, whose greedy answers decide."""

    def __post_init__(self) -> None:
        if self.factor <= 0.0 or self.trials < 1 or self.num_prompts < 1:
            raise ConfigError(
                "Extrapolation needs factor > 0, trials >= 1 and num_prompts >= 1, got "
                f"{self.factor!r}, {self.trials!r} and {self.num_prompts!r}."
            )

    @property
    def moves(self) -> str | None:
        """It moves weights, no setting."""
        return None

    @property
    def verdicts(self) -> frozenset[VerdictField]:
        """What it asks of the verifier."""
        return frozenset({"reward"})


AnyController = AlignedWindow | Extrapolation
"""Every controller."""
