"""The rule, on made-up numbers."""

import math
from statistics import fmean, stdev

import numpy as np
import pytest

from tutelage.errors import DataError
from tutelage.lab.reproduction import verdict
from tutelage.lab.reproduction.verdict import judge, t_interval


@pytest.mark.parametrize("degrees", range(1, len(verdict._T95) + 1))
def test_the_quantiles_leave_a_fortieth_on_either_side(degrees: int):
    grid = np.linspace(0.0, verdict._T95[degrees - 1], 200_001)
    scale = math.gamma((degrees + 1) / 2) / math.sqrt(degrees * math.pi) / math.gamma(degrees / 2)
    density = scale * (1.0 + grid**2 / degrees) ** (-(degrees + 1) / 2)
    assert np.trapezoid(density, grid) == pytest.approx(0.475, abs=5e-5)


def test_the_interval_is_that_of_the_mean_of_the_differences():
    found = judge([0.6, 0.7, 0.8], [0.5, 0.5, 0.5], direction="higher")
    half = 4.303 * stdev([0.1, 0.2, 0.3]) / math.sqrt(3)
    assert found.difference == pytest.approx(0.2)
    assert found.interval == pytest.approx((0.2 - half, 0.2 + half))


@pytest.mark.parametrize(
    ("differences", "direction", "word"),
    [
        ((0.10, 0.11, 0.12), "higher", "confirmed"),
        ((-0.10, -0.11, -0.12), "higher", "opposite"),
        ((0.10, -0.02, 0.03), "higher", "not confirmed"),
        ((-0.10, -0.11, -0.12), "lower", "confirmed"),
        ((0.10, 0.11, 0.12), "lower", "opposite"),
        ((-0.010, -0.012, -0.008), "no_worse", "confirmed"),
        ((-0.110, -0.112, -0.108), "no_worse", "opposite"),
        ((-0.10, 0.10, 0.00), "no_worse", "not confirmed"),
        ((0.0, 0.0, 0.0), "higher", "not confirmed"),
        ((0.5,), "higher", "not confirmed"),
    ],
)
def test_the_word_follows_from_where_the_interval_lies(differences, direction, word):
    baseline = [0.5 + 0.1 * seed for seed in range(len(differences))]
    ours = [value + change for value, change in zip(baseline, differences, strict=True)]
    found = judge(ours, baseline, direction=direction, margin=0.03)
    assert found.word == word
    assert found.undecided == (word == "not confirmed")


def test_what_varies_with_the_seed_alone_does_not_widen_the_interval():
    paired = judge([0.2, 0.5, 0.9], [0.1, 0.4, 0.8], direction="higher")
    assert paired.interval == pytest.approx((0.1, 0.1))
    apart = t_interval([0.2, 0.5, 0.9])
    assert apart is not None
    assert apart[0] < fmean([0.1, 0.4, 0.8])


def test_pairs_are_asked_for():
    with pytest.raises(DataError, match="one pair of numbers per seed"):
        judge([0.1, 0.2], [0.1], direction="higher")
    with pytest.raises(DataError):
        judge([], [], direction="higher")
