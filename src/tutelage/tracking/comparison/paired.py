"""The difference of two means over the same examples, and how sure one can be of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tutelage.errors import DataError
from tutelage.tracking.events import Interval

ByExample = Mapping[str, tuple[float, float]]
"""Id of an example -> its value, and its weight in the mean."""

_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """One metric of two runs, over the examples that both were evaluated on."""

    first: float
    """The mean of the first run."""
    second: float
    """The mean of the second run."""
    interval: Interval
    """Of 95 %, of the difference second minus first."""
    num_shared: int
    """Examples."""

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval[0] > 0.0 or self.interval[1] < 0.0


def paired_difference(first: ByExample, second: ByExample, *, seed: int = 0) -> Paired:
    """The difference of two weighted means with its percentile bootstrap interval.

    Examples are drawn with replacement, each with what both runs did on it. What makes an example hard for both runs alike
    cancels, so the interval is much narrower than the two runs' own intervals suggest.

    Args:
        first: Of one run.
        second: Of the other.
        seed: Of the resampling; the interval depends on nothing else but the arguments.

    Raises:
        DataError: The runs share no example.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise DataError(
            "The runs were evaluated on no common example, so they cannot be compared in pairs. Evaluate both on the same "
            "held-out data."
        )
    pairs = [np.array([side[example] for example in shared]).T for side in (first, second)]
    drawn = np.random.default_rng(seed).integers(0, len(shared), (_RESAMPLES, len(shared)))
    means = [(values * weights)[drawn].sum(1) / weights[drawn].sum(1) for values, weights in pairs]
    low, high = np.quantile(means[1] - means[0], [0.025, 0.975])
    ends = [float(np.average(values, weights=weights)) for values, weights in pairs]
    return Paired(first=ends[0], second=ends[1], interval=(float(low), float(high)), num_shared=len(shared))
