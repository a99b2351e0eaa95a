import pytest
import torch

from enumeration import batch_of, kl, outcome, pair
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, make, moments
from tutelage.recipes.horizons import kat
from tutelage.rollouts.sources import WatchedRollouts


def test_the_divergence_on_the_top_entries_and_a_tail_is_at_most_the_full_one():
    student, teacher = pair()
    part = outcome(kat(k=3), batch_of([0], torch.zeros(1)), student, teacher).loss
    assert 0.0 < part <= kl(student, teacher)
    assert outcome(kat(k=7), batch_of([0], torch.zeros(1)), student, teacher).loss == pytest.approx(kl(student, teacher))


def test_defaults_are_the_published_ones():
    rollouts = kat("folder").rollouts
    assert isinstance(rollouts, WatchedRollouts)
    assert (rollouts.window, rollouts.buffer, rollouts.min_fill, rollouts.warmup_steps) == (64, 4096, 512, 50)
    assert (rollouts.count, rollouts.share, rollouts.entries) == (4, 0.3, 64)
    assert (rollouts.sampling.temperature, rollouts.sampling.top_p) == (1.0, 0.95)


def test_the_exact_oracle_says_that_it_knows_one_step_only():
    with pytest.raises(ConfigError, match="earlier steps"):
        moments(make(Size(vocab=3, length=2)), kat())
