from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data import PromptOrder
from tutelage.errors import ConfigError

SIZES = {"num_examples": st.integers(1, 40), "batch": st.integers(1, 50), "seed": st.integers(0, 2**63 - 1)}


@given(**SIZES, epochs=st.integers(1, 4))
def test_every_example_is_read_once_before_any_is_read_again(num_examples, batch, seed, epochs):
    order = PromptOrder(num_examples=num_examples, batch=batch, seed=seed)
    steps = -(-epochs * num_examples // batch)
    read = [index for step in range(steps) for index in order.take(step)]
    for epoch in range(epochs):
        assert sorted(read[epoch * num_examples : (epoch + 1) * num_examples]) == list(range(num_examples))


@given(**SIZES, step=st.integers(0, 1000))
def test_a_step_depends_on_nothing_that_came_before_it(num_examples, batch, seed, step):
    fresh = PromptOrder(num_examples=num_examples, batch=batch, seed=seed).take(step)
    used = PromptOrder(num_examples=num_examples, batch=batch, seed=seed)
    for earlier in (step + 3, 0, step + 1):
        used.take(earlier)
    assert used.take(step) == fresh
    assert len(fresh) == batch


def test_the_order_does_not_depend_on_the_batch():
    by_ones = [PromptOrder(num_examples=10, batch=1, seed=3).take(step)[0] for step in range(30)]
    by_sevens = [index for step in range(4) for index in PromptOrder(num_examples=10, batch=7, seed=3).take(step)]
    assert by_sevens == by_ones[:28]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(PromptOrder(num_examples=20, batch=20, seed=seed).take(epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_every_example_comes_first_about_equally_often():
    firsts = Counter(PromptOrder(num_examples=5, batch=5, seed=seed).take(0)[0] for seed in range(2000))
    assert set(firsts) == set(range(5))
    # 400 each is expected; the standard deviation is sqrt(2000 * 0.2 * 0.8) < 18
    assert all(abs(count - 400) < 5 * 18 for count in firsts.values())


@pytest.mark.parametrize("bad", [{"num_examples": 0, "batch": 1}, {"num_examples": 1, "batch": 0}])
def test_an_order_of_nothing_is_refused(bad):
    with pytest.raises(ConfigError, match="at least 1"):
        PromptOrder(seed=0, **bad)
