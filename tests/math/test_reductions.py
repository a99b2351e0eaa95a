"""Reductions against sums done by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.math.reductions import constant, sequence_mean, token_mean

MASK = torch.tensor([True, True, False, True, False, False, True])
ROLLOUT = torch.tensor([0, 0, 0, 2, 2, 3, 4])
VALUES = torch.tensor([1.0, 3.0, 100.0, 5.0, 100.0, 100.0, 9.0], dtype=torch.float64)


def alone(count: torch.Tensor) -> torch.Tensor:
    """The total of one process."""
    return count


def test_token_mean_averages_the_masked_rows():
    assert (token_mean(MASK, total=alone) * VALUES).sum().item() == pytest.approx((1 + 3 + 5 + 9) / 4)


def test_sequence_mean_averages_rollouts_that_have_any_masked_row():
    found = (sequence_mean(MASK, ROLLOUT, total=alone) * VALUES).sum()
    assert found.item() == pytest.approx(((1 + 3) / 2 + 5 + 9) / 3)


def test_constant_divides_sums_by_the_constant_and_the_number_of_rollouts_that_have_any_masked_row():
    found = (constant(MASK, ROLLOUT, divisor=10.0, total=alone) * VALUES).sum()
    assert found.item() == pytest.approx((1 + 3 + 5 + 9) / 10 / 3)


def test_nothing_masked_gives_zeros_and_no_division_by_zero():
    nobody = torch.zeros_like(MASK)
    for found in (
        token_mean(nobody, total=alone),
        sequence_mean(nobody, ROLLOUT, total=alone),
        constant(nobody, ROLLOUT, divisor=2.0, total=alone),
    ):
        assert found.tolist() == [0.0] * 7


def test_no_rows_at_all_give_no_coefficients():
    mask, rollout = MASK[:0], ROLLOUT[:0]
    assert token_mean(mask, total=alone).shape == (0,)
    assert sequence_mean(mask, rollout, total=alone).shape == (0,)
    assert constant(mask, rollout, divisor=2.0, total=alone).shape == (0,)


@given(
    lengths=st.lists(st.integers(0, 6), min_size=2, max_size=8),
    cut=st.integers(1, 7),
    seed=st.integers(0, 100),
    name=st.sampled_from(["token", "sequence", "constant"]),
)
def test_two_processes_with_summed_counts_give_the_coefficients_of_one(lengths, cut, seed, name):
    cut = min(cut, len(lengths) - 1)
    rollout = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = torch.rand(len(rollout), generator=torch.Generator().manual_seed(seed)) < 0.7

    def reduce(mask, rollout, total):
        if name == "token":
            return token_mean(mask, total=total)
        if name == "sequence":
            return sequence_mean(mask, rollout, total=total)
        return constant(mask, rollout, divisor=3.0, total=total)

    whole = reduce(mask, rollout, alone)
    first = rollout < cut
    halves = [(mask[first], rollout[first]), (mask[~first], rollout[~first] - cut)]
    counts: list[torch.Tensor] = []
    for half in halves:
        reduce(*half, lambda count: counts.append(count) or count)
    together = torch.cat([reduce(*half, lambda _: counts[0] + counts[1]) for half in halves])
    torch.testing.assert_close(together, whole, rtol=0.0, atol=0.0)
