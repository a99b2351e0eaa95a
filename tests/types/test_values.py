"""Heads, signals and schedules."""

import pytest
import torch

from tutelage.errors import ConfigError
from tutelage.types import FullSignal, Head, SampledSignal, TopKSignal
from tutelage.types.schedules import Cosine, Linear, Phases, range_of, value_at

ROWS = torch.tensor([2, 0])


def test_a_head_knows_its_vocabulary():
    assert Head(weight=torch.zeros(7, 3)).vocab_size == 7


def test_signals_select_rows_and_say_what_they_provide():
    full = FullSignal(hidden=torch.arange(6.0).reshape(3, 2), head=Head(weight=torch.zeros(4, 2)))
    top = TopKSignal(ids=torch.arange(3).unsqueeze(-1), log_probs=-torch.ones(3, 1), sampled=-torch.arange(3.0))
    sampled = SampledSignal(sampled=-torch.arange(3.0))
    assert full.select(ROWS).hidden.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert full.select(ROWS).head is full.head
    assert (top.select(ROWS).ids.tolist(), top.select(ROWS).sampled.tolist()) == ([[2], [0]], [-2.0, 0.0])
    assert sampled.select(slice(1, 3)).sampled.tolist() == [-1.0, -2.0]
    assert sampled.provides < top.provides < full.provides


def test_a_linear_schedule_is_a_ramp_and_then_flat():
    ramp = Linear(start=1.0, end=3.0, steps=4)
    assert [ramp(step) for step in (0, 1, 2, 4, 100)] == [1.0, 1.5, 2.0, 3.0, 3.0]


def test_a_cosine_schedule_starts_and_ends_where_it_says_and_is_halfway_in_the_middle():
    wave = Cosine(start=1.0, end=0.0, steps=10)
    assert [wave(step) for step in (0, 5, 10, 99)] == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=1e-15)
    assert all(wave(step) >= wave(step + 1) for step in range(12))


def test_phases_hold_one_value_after_another_from_their_starts_on():
    phases = Phases(values=(1.0, 5.0, 2.0), starts=(3, 10))
    assert [phases(step) for step in (0, 2, 3, 9, 10, 99)] == [1.0, 1.0, 5.0, 5.0, 2.0, 2.0]
    assert Phases(values=(0.7,), starts=())(5) == 0.7
    assert range_of(phases) == (1.0, 5.0, 2.0)


@pytest.mark.parametrize(("values", "starts"), [((1.0, 2.0), ()), ((1.0, 2.0), (0,)), ((1.0, 2.0, 3.0), (5, 5)), ((), ())])
def test_phases_that_do_not_follow_one_another_are_refused(values, starts):
    with pytest.raises(ConfigError, match="one start fewer than values"):
        Phases(values=values, starts=starts)


def test_a_setting_may_be_a_number_or_move():
    assert value_at(0.3, 7) == 0.3
    assert value_at(Linear(start=0.0, end=1.0, steps=2), 1) == 0.5


@pytest.mark.parametrize("make", [Linear, Cosine])
def test_a_schedule_of_no_steps_is_refused(make):
    with pytest.raises(ConfigError, match="steps >= 1"):
        make(start=0.0, end=1.0, steps=0)
