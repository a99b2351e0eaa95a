"""From paired numbers to a word, by one rule for all rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal

from tutelage.errors import DataError
from tutelage.lab.reproduction.curves import Interval

Direction = Literal["higher", "lower", "no_worse"]
"""What the claim says of ours against the baseline: above it, below it, or not below it by more than the metric's margin."""
Word = Literal["confirmed", "not confirmed", "opposite"]

RULE = (
    "For each seed both runs have the same models, prompts and problems, so their difference is taken within the seed. The "
    "interval is Student's t at 95 % over these differences. Confirmed: the whole interval lies on the side that the claim "
    "names (for `no worse`: above minus the margin). Opposite: it lies wholly on the other side. Everything else, and any row "
    "with fewer than two seeds, is not confirmed."
)

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % quantiles of Student's t for 1 to 9 degrees of freedom."""
_NORMAL = 1.96


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A claim against the measured differences."""

    difference: float
    """Mean of ours minus the baseline's over the seeds."""
    interval: Interval | None
    """Of 95 %; None for a single seed."""
    word: Word

    @property
    def undecided(self) -> bool:
        """Whether further seeds could decide it."""
        return self.word == "not confirmed"


def judge(ours: Sequence[float], baseline: Sequence[float], *, direction: Direction, margin: float = 0.0) -> Verdict:
    """The verdict on a claim.

    Args:
        ours: The metric, one value per seed.
        baseline: The baseline's, of the same seeds in the same order.
        direction: What the claim says.
        margin: Of `no_worse`: how much lower still counts as no worse.

    Raises:
        DataError: There is no seed, or not one pair per seed.
    """
    if not ours or len(ours) != len(baseline):
        raise DataError(f"A verdict needs one pair of numbers per seed, got {len(ours)} and {len(baseline)}.")
    differences = [mine - theirs for mine, theirs in zip(ours, baseline, strict=True)]
    interval = t_interval(differences)
    return Verdict(difference=fmean(differences), interval=interval, word=_word(interval, direction, margin))


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's 95 % interval of a mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    degrees = len(values) - 1
    quantile = _T95[degrees - 1] if degrees <= len(_T95) else _NORMAL
    half = quantile * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _word(interval: Interval | None, direction: Direction, margin: float) -> Word:
    if interval is None:
        return "not confirmed"
    low, high = interval
    bound = -margin if direction == "no_worse" else 0.0
    above, below = low > bound, high < bound
    good, bad = (below, above) if direction == "lower" else (above, below)
    return "confirmed" if good else "opposite" if bad else "not confirmed"
