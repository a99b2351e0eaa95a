"""The learning rate against values worked out by hand."""

from math import isclose

import pytest

from tutelage.training.schedule import learning_rate
from tutelage.training.settings import OptimiserSettings


def test_warm_up_rises_in_equal_steps_and_never_wastes_a_step_at_zero():
    settings = OptimiserSettings(learning_rate=2.0, warmup_steps=4)
    assert [learning_rate(settings, step=step, num_steps=100) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_last_step_has_the_final_fraction(decay):
    settings = OptimiserSettings(learning_rate=3.0, warmup_steps=5, decay=decay, final_fraction=0.25)
    assert isclose(learning_rate(settings, step=49, num_steps=50), 0.75)


def test_cosine_is_half_way_down_in_the_middle():
    settings = OptimiserSettings(learning_rate=1.0, warmup_steps=0, decay="cosine", final_fraction=0.0)
    assert isclose(learning_rate(settings, step=50, num_steps=101), 0.5)


def test_constant_stays_at_its_peak_after_the_warm_up():
    settings = OptimiserSettings(learning_rate=1.0, warmup_steps=2, decay="constant")
    assert {learning_rate(settings, step=step, num_steps=10) for step in range(2, 10)} == {1.0}


def test_a_run_shorter_than_its_warm_up_still_has_a_rate():
    settings = OptimiserSettings(learning_rate=1.0, warmup_steps=20)
    assert isclose(learning_rate(settings, step=2, num_steps=3), 0.15)
