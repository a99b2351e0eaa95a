"""Weights that share a whole out: they add up to what was there before."""

from math import exp

import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.weighting import EntropyContrast, PerplexityShare

RESPONSES, GROUPS = [[0, 1], [2], [3, 4, 5], [0]], [0, 0, 0, 1]


def given():
    return steps.step(*RESPONSES, student=steps.logits(7), groups=GROUPS).batch


def weigh(part, measured, mask=None) -> torch.Tensor:
    everybody = torch.ones(7, dtype=torch.bool)
    return part(given(), measured, everybody if mask is None else mask, step=0, gather=lambda local: local)


def test_entropies_of_others_tokens_neither_set_the_scale_nor_the_mean():
    own, theirs = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0, 9.0, 9.0]), torch.tensor([0.5, 1.0, 0.2, 1.0, 0.1, 9.0, 9.0])
    mask = torch.tensor([True] * 5 + [False] * 2)
    found = weigh(EntropyContrast(), {"student_entropy_nats": own, "teacher_entropy_nats": theirs}, mask)[:5]
    raw = [(1.0 + 1.0 - t / 1.0) * (1.0 + o / 2.0) for o, t in zip(own[:5].tolist(), theirs[:5].tolist(), strict=True)]
    assert found.tolist() == pytest.approx([5.0 * value / sum(raw) for value in raw])


def test_where_nobody_is_uncertain_all_tokens_count_alike():
    zeros = {"student_entropy_nats": torch.zeros(7), "teacher_entropy_nats": torch.zeros(7)}
    assert weigh(EntropyContrast(), zeros).tolist() == pytest.approx([1.0] * 7)


def test_the_shares_of_a_prompts_responses_are_a_softmax_times_their_number():
    values = torch.tensor([-1.0, -3.0, -0.5, -1.0, -1.5, -2.0, -7.0])
    means = [-2.0, -0.5, -1.5]
    for prefers, sign in (("likely", 1.0), ("unlikely", -1.0)):
        found = weigh(PerplexityShare(prefers=prefers, temperature=0.7), {"teacher_log_prob": values})
        size = [exp(sign * mean / 0.7) for mean in means]
        expected = [3.0 * each / sum(size) for each in size]
        assert found.tolist() == pytest.approx([expected[0]] * 2 + [expected[1]] + [expected[2]] * 3 + [1.0])


def test_a_response_that_the_term_does_not_act_on_takes_no_share():
    values = torch.tensor([-1.0, -3.0, -0.5, torch.nan, torch.nan, torch.nan, -7.0])
    mask = torch.tensor([True] * 3 + [False] * 3 + [True])
    found = weigh(PerplexityShare(), {"teacher_log_prob": values}, mask)
    size = [exp(-2.0), exp(-0.5)]
    assert found[[0, 2, 6]].tolist() == pytest.approx([2.0 * size[0] / sum(size), 2.0 * size[1] / sum(size), 1.0])


def test_whose_perplexity_it_is_decides_what_is_asked():
    assert (PerplexityShare().needs, PerplexityShare().statistics) == ({"sampled"}, {"teacher_log_prob"})
    own = PerplexityShare(of="student")
    assert (own.needs, own.statistics) == (frozenset(), {"student_log_prob"})


@pytest.mark.parametrize("make", [lambda: PerplexityShare(temperature=0.0), lambda: EntropyContrast(teacher=-1.0)])
def test_settings_that_mean_nothing_are_refused(make):
    with pytest.raises(ConfigError, match="needs"):
        make()
