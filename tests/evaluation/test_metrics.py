from itertools import combinations, pairwise, product
from math import comb, erf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.evaluation.metrics import average_at_k, bootstrap_interval, pass_at_k, wilson_interval

Z = 1.959963984540054
"""Two-sided 95 % point of the normal distribution; checked below against the error function."""


def binomial(successes: int, trials: int, p: float) -> float:
    return comb(trials, successes) * p**successes * (1 - p) ** (trials - successes)


def test_pass_at_k_is_the_share_of_all_subsets_with_a_right_response():
    for n in range(1, 8):
        for c, k in product(range(n + 1), range(1, n + 1)):
            responses = [True] * c + [False] * (n - c)
            subsets = list(combinations(responses, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-15)


@pytest.mark.parametrize("p", [0.0, 0.03, 0.4, 1.0])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (8, 1), (8, 4), (8, 8), (64, 16)])
def test_pass_at_k_is_unbiased(n, k, p):
    expectation = sum(binomial(c, n, p) * pass_at_k(n, c, k) for c in range(n + 1))
    assert expectation == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


@given(n=st.integers(1, 200), data=st.data())
def test_pass_at_k_starts_at_the_average_grows_with_k_and_ends_at_any(n, data):
    c = data.draw(st.integers(0, n))
    values = [pass_at_k(n, c, k) for k in range(1, n + 1)]
    assert values[0] == pytest.approx(average_at_k(n, c))
    assert values[-1] == (1.0 if c else 0.0)
    assert all(low <= high + 1e-12 for low, high in pairwise(values))


@pytest.mark.parametrize(("n", "c", "k"), [(0, 0, 1), (4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_counts_that_contradict_each_other_are_refused(n, c, k):
    with pytest.raises(ValueError, match="got"):
        pass_at_k(n, c, k)


def test_the_average_needs_a_sample():
    with pytest.raises(ValueError, match="at least one trial"):
        average_at_k(0, 0)


@given(n=st.integers(1, 5000), data=st.data())
def test_the_ends_of_wilsons_interval_are_the_roots_of_its_quadratic(n, data):
    successes = data.draw(st.integers(0, n))
    share = successes / n
    for p in wilson_interval(successes, n):
        assert (share - p) ** 2 == pytest.approx(Z * Z * p * (1 - p) / n, abs=1e-12)


@given(n=st.integers(1, 5000), data=st.data())
def test_wilsons_interval_holds_the_share_stays_in_range_and_is_symmetric(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    assert high > low
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilsons_interval_without_a_success_ends_at_its_closed_form():
    assert wilson_interval(0, 256) == pytest.approx((0.0, Z * Z / (256 + Z * Z)), abs=1e-15)


def test_the_normal_point_leaves_five_per_cent_outside():
    assert erf(Z / sqrt(2)) == pytest.approx(0.95, abs=1e-15)


@pytest.mark.parametrize("n", [20, 100])
def test_wilsons_interval_covers_as_often_as_it_says(n):
    ends = [wilson_interval(successes, n) for successes in range(n + 1)]
    coverage = [
        sum(binomial(s, n, p) for s, (low, high) in enumerate(ends) if low <= p <= high) for p in np.linspace(0.02, 0.98, 97)
    ]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)


def test_the_bootstrap_interval_is_that_of_all_resamples():
    values = [0.0, 1.0, 5.0]
    every = [np.mean(drawn) for drawn in product(values, repeat=3)]
    for confidence in (0.6, 0.8, 0.95):  # none of whose ends falls on a step of the 27 equally likely resamples
        ends = np.quantile(every, [0.5 - confidence / 2, 0.5 + confidence / 2], method="inverted_cdf")
        assert bootstrap_interval(values, confidence=confidence, resamples=20_000) == pytest.approx(tuple(ends))


def test_weights_belong_to_their_prompts():
    # Two prompts of weights 1 and 3: half of all resamples hold both, and their mean is (1 * 0 + 3 * 1) / 4.
    assert bootstrap_interval([0.0, 1.0], weights=[1.0, 3.0], confidence=0.4) == pytest.approx((0.75, 0.75))


def test_the_scale_of_the_weights_does_not_matter():
    values, weights = [0.1, 0.7, 0.4, 0.9], [1.0, 2.0, 5.0, 3.0]
    scaled = [10.0 * weight for weight in weights]
    assert bootstrap_interval(values, weights=weights) == pytest.approx(bootstrap_interval(values, weights=scaled))


def test_the_bootstrap_interval_covers_a_known_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    trials = [generator.binomial(4, 0.3, size=64) / 4 for _ in range(300)]  # 64 prompts, 4 samples each, mean 0.3
    covered = [low <= 0.3 <= high for low, high in (bootstrap_interval(trial.tolist(), resamples=300) for trial in trials)]
    # Three standard deviations of a share of 300 at 0.95 are 0.038; the percentile method is a little narrow.
    assert 0.90 <= np.mean(covered) <= 0.99


def test_the_bootstrap_interval_depends_on_nothing_but_its_arguments():
    values = [0.1 * number for number in range(50)]
    first = bootstrap_interval(values, seed=3)
    np.random.default_rng(0).random()
    assert bootstrap_interval(values, seed=3) == first
    assert bootstrap_interval(values, seed=4) != first


@pytest.mark.parametrize(("values", "weights"), [([], None), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, 0.0])])
def test_a_bootstrap_of_nothing_is_refused(values, weights):
    with pytest.raises(ValueError, match="at least one value and a positive weight for each"):
        bootstrap_interval(values, weights=weights)
