"""A score function on corrected rewards has the mean gradient of its divergence, for every f, by enumeration."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from tutelage import objectives as o
from tutelage.lab.exact import Size, make, moments
from tutelage.math.generators import GENERATORS
from tutelage.objectives.advantages import DivergenceName
from tutelage.recipes import opd

SIZE = Size(vocab=3, length=2)
DIVERGENCES: dict[str, tuple[o.AnySignal, float | None]] = {
    "reverse_kl": (o.ReverseKL(), None),
    "forward_kl": (o.ForwardKL(), None),
    "jensen_shannon": (o.JensenShannon(beta=0.3), 0.3),
    "skew_forward_kl": (o.SkewKL(direction="forward", alpha=0.2), 0.2),
    "skew_reverse_kl": (o.SkewKL(direction="reverse", alpha=0.2), 0.2),
    "alpha": (o.Alpha(alpha=0.7), 0.7),
    "jeffreys": (o.Jeffreys(), None),
    "total_variation": (o.TotalVariation(), None),
    "hellinger": (o.Hellinger(), None),
    "chi_square_forward": (o.ChiSquare(direction="forward"), None),
    "chi_square_reverse": (o.ChiSquare(direction="reverse"), None),
}


def mean_gradient(signal: o.AnySignal) -> torch.Tensor:
    """Of one response from the student."""
    recipe = replace(opd(n=1), terms=(o.Term(name="term", signal=signal),))
    return moments(make(SIZE, seed=3), recipe).gradient


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_mean_gradient_is_that_of_the_divergence_of_every_prefix(name):
    exact, shape = DIVERGENCES[name]
    sampled = o.ScoreFunction(advantage=o.LogRatio(divergence=name, shape=shape), ratio=o.NoRatio())
    expected = mean_gradient(exact)
    assert float(expected.norm()) > 1e-3
    torch.testing.assert_close(mean_gradient(sampled), expected, rtol=1e-9, atol=1e-12)


def test_the_rewards_of_two_divergences_pull_differently():
    rewards = [o.ScoreFunction(advantage=o.LogRatio(divergence=name)) for name in ("reverse_kl", "forward_kl")]
    first, second = (mean_gradient(signal) for signal in rewards)
    assert float((first - second).norm()) > 0.1 * float(first.norm())


def test_every_known_divergence_can_be_named_and_is_checked_here():
    assert set(get_args(DivergenceName)) == set(GENERATORS) == set(DIVERGENCES)
