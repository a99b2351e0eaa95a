"""Estimates over prompts and how sure one can be of them: numbers in, numbers out."""

from collections.abc import Sequence
from math import comb, sqrt
from statistics import NormalDist

import numpy as np

Interval = tuple[float, float]
"""Lower and upper end."""


def average_at_k(samples: int, correct: int) -> float:
    """Share of a prompt's samples that are right, in [0, 1]: the unbiased estimate of the chance that one sample is.

    Args:
        samples: Responses that were judged, at least 1.
        correct: How many of them are right.
    """
    _check_counts(samples, correct)
    return correct / samples


def pass_at_k(samples: int, correct: int, k: int) -> float:
    r"""Unbiased estimate, from `samples` responses, of the chance that at least one of `k` is right.

    $$ 1 - \binom{n - c}{k} \Big/ \binom{n}{k} $$

    This is the share, among all ways to choose k of the n responses, of those with a right one; the plug-in
    `1 - (1 - c/n)^k` is too low.

    Args:
        samples: n, responses that were judged.
        correct: c, how many of them are right.
        k: 1 <= k <= n. At k = 1 this is `average_at_k`; at k = n it is 1 where any response is right, else 0.

    Raises:
        ValueError: The counts contradict each other.

    Reference: Chen et al. 2021, arXiv:2107.03374, equation 1.
    """
    _check_counts(samples, correct)
    if not 1 <= k <= samples:
        raise ValueError(
            f"pass_at_k needs 1 <= k <= samples, got k {k!r} and {samples!r} samples. Draw more samples, or lower k."
        )
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    r"""Interval for a probability of which `successes` of `trials` independent trials succeeded.

    The probabilities p that a two-sided normal test would not reject, that is those between the roots of
    $(\hat p - p)^2 = z^2 p (1 - p) / n$. Unlike the interval from the estimate's own standard error it stays within [0, 1]
    and does not shrink to a point at 0 or n successes.

    Args:
        successes: 0 <= successes <= trials.
        trials: At least 1.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: The counts contradict each other.

    Reference: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    _check_counts(trials, successes)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share, shrink = successes / trials, 1.0 / (1.0 + z * z / trials)
    centre = shrink * (share + z * z / (2.0 * trials))
    half = shrink * z * sqrt(share * (1.0 - share) / trials + (z / (2.0 * trials)) ** 2)
    # At the ends one root is exact, and rounding must not push it past the estimate.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def bootstrap_interval(
    values: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval for a mean over prompts.

    Prompts are drawn with replacement, each with all that belongs to it: responses to one prompt need not be independent.

    Args:
        values: One per prompt.
        weights: Of each prompt in the mean, for example its number of tokens, all positive; equal by default.
        confidence: Coverage, between 0 and 1; it is nominal, and falls short for few prompts.
        resamples: Number of resampled sets.
        seed: The interval depends on nothing else but the arguments.

    Raises:
        ValueError: There is no value, or not one positive weight per value.
    """
    of = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(of) if weights is None else np.asarray(weights, dtype=np.float64)
    if of.size == 0 or of.shape != weight.shape or not (weight > 0.0).all():
        raise ValueError(
            f"bootstrap_interval needs at least one value and a positive weight for each, got {of.size} values and the "
            f"weights {weights!r}."
        )
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for resample in range(resamples):
        drawn = generator.integers(0, of.size, of.size)
        means[resample] = np.average(of[drawn], weights=weight[drawn])
    low, high = np.quantile(means, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    return float(low), float(high)


def _check_counts(trials: int, successes: int) -> None:
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"Expected at least one trial and no more successes than trials, got {successes!r} of {trials!r}.")
