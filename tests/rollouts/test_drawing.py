from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.rollouts.drawing import distribution, draw, uniforms
from tutelage.rollouts.sources import Sampling


def _grid(count: int) -> torch.Tensor:
    """Midpoints of `count` equal intervals: a share of them hits an entry in proportion to its mass."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _shares(logits: torch.Tensor, sampling: Sampling, count: int) -> torch.Tensor:
    chosen, _ = draw(logits.expand(count, -1), sampling, _grid(count))
    return torch.bincount(chosen, minlength=logits.shape[-1]).double() / count


def _filtered(logits: list[float], sampling: Sampling) -> np.ndarray:
    """The distribution that is meant, entry by entry."""
    scaled = np.array(logits, dtype=np.float64) / sampling.temperature
    order = sorted(range(len(scaled)), key=lambda index: -scaled[index])
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = {index: np.exp(scaled[index] - scaled[order[0]]) for index in order}
    total, mass, kept = sum(weights.values()), 0.0, {}
    for index in order:
        if kept and mass >= sampling.top_p:
            break
        kept[index] = weights[index]
        mass += weights[index] / total
    result = np.zeros(len(scaled))
    for index, weight in kept.items():
        result[index] = weight / sum(kept.values())
    return result


@given(
    logits=st.lists(st.integers(-60, 60), min_size=2, max_size=9, unique=True),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.integers(0, 10),
    top_p=st.sampled_from([0.05, 0.31, 0.77, 0.96, 1.0]),
)
def test_shares_and_log_probabilities_are_those_of_the_filtered_distribution(logits, temperature, top_k, top_p):
    values = [value / 10 for value in logits]
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    expected = _filtered(values, sampling)
    row = torch.tensor(values, dtype=torch.float32)
    shares = _shares(row, sampling, 4000).numpy()
    np.testing.assert_allclose(shares, expected, atol=len(values) / 4000)
    chosen, log_probs = draw(row.expand(50, -1), sampling, _grid(50))
    np.testing.assert_allclose(log_probs.exp().numpy(), expected[chosen.numpy()], rtol=1e-4)


@pytest.mark.parametrize("vocab", [1, 2, 127, 128, 129, 256, 1000])
def test_every_entry_of_a_vocabulary_of_any_size_is_hit_in_proportion(vocab):
    masses = torch.rand(vocab, generator=torch.Generator().manual_seed(0)).double() + 0.5
    expected = masses / masses.sum()
    shares = _shares(masses.log().float(), Sampling(), 20 * vocab)
    torch.testing.assert_close(shares, expected, atol=1.01 / (20 * vocab), rtol=1e-5)


def test_the_smallest_and_the_largest_draw_hit_entries_with_mass():
    logits = torch.full((2, 300), float("-inf"))
    logits[:, [131, 260]] = 0.0
    chosen, log_probs = draw(logits, Sampling(), torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64))
    assert chosen.tolist() == [131, 260]
    torch.testing.assert_close(log_probs, torch.full((2,), -log(2.0)))


def test_a_rare_token_at_the_end_of_a_real_vocabulary_keeps_its_mass():
    logits = torch.zeros(1, 151_936)
    logits[0, -1] = -2.0
    mass = float(logits.double().softmax(-1)[0, -1])
    inside, before = (
        draw(logits, Sampling(), torch.tensor([1.0 - share * mass], dtype=torch.float64))[0].item() for share in (0.9, 1.1)
    )
    assert (before, inside) == (151_934, 151_935)


def test_a_nucleus_wider_than_the_first_candidates_is_exact():
    logits = torch.zeros(1, 5000)
    logits[0, :2500] = 1e-3
    chosen, log_probs = draw(logits.expand(3000, -1), Sampling(top_p=0.5), _grid(3000))
    kept = 0.5 * float(logits.double().exp().sum()) / float(torch.tensor(1e-3).exp())
    assert chosen.max() < 2500
    assert chosen.unique().numel() == pytest.approx(kept, abs=2.0)
    torch.testing.assert_close(log_probs, torch.full_like(log_probs, -log(kept)), atol=2e-3, rtol=0)


def test_ties_at_the_border_keep_exactly_k():
    assert int((_shares(torch.zeros(8), Sampling(top_k=3), 4000) > 0).sum()) == 3


def test_greedy_takes_the_likeliest_with_its_log_probability_at_temperature_one():
    logits = torch.tensor([[0.0, log(3.0), log(2.0)]])
    chosen, log_probs = draw(logits, Sampling(temperature=0.0, top_k=1), torch.tensor([0.99], dtype=torch.float64))
    assert chosen.item() == 1
    assert log_probs.item() == pytest.approx(log(0.5))


def test_draws_belong_to_the_seed_and_the_place():
    assert np.array_equal(uniforms(3, 5, 10), uniforms(3, 5, 10))
    assert np.array_equal(uniforms(3, 5, 10), uniforms(3, 5, 20)[:10])
    streams = {tuple(uniforms(seed, index, 4)) for seed in range(5) for index in range(5)}
    assert len(streams) == 25


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=1.4, top_p=0.8, top_k=3),
        Sampling(top_p=0.6),
        Sampling(top_k=2),
        Sampling(temperature=0.0),
    ],
)
def test_the_distribution_is_what_draws_come_from(sampling):
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found, count = distribution(logits, sampling), 20_000
    for row, log_probs in zip(logits, found, strict=True):
        torch.testing.assert_close(log_probs.exp(), _shares(row, sampling, count), atol=2.0 / count, rtol=0)
        tokens, said = draw(row.expand(count, -1), sampling, _grid(count))
        if sampling.temperature > 0.0:
            torch.testing.assert_close(log_probs[tokens], said)
