from math import log

import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.recipes import opd, reopold

VOCAB = 6


def one_response(length: int = 10, *, spread: float = 3.0):
    tokens = [time % VOCAB for time in range(length)]
    student, teacher = steps.logits(length), steps.logits(length, seed=1, spread=spread)
    return steps.step(tokens, student=student, teacher=teacher)


def test_without_a_floor_and_with_all_tokens_it_is_opd():
    assert reopold(mixture=0.0, keep_later=1.0).terms == opd().terms


@pytest.mark.parametrize("mixture", [0.1, 0.5])
def test_the_floor_touches_only_tokens_whose_log_ratio_is_below_it(mixture):
    given = one_response()
    floor = log(mixture) / (1.0 - mixture)
    worth = steps.log_prob(given, given.teachers["teacher"].hidden) - steps.log_prob(given, given.hidden)
    assert worth.min() < floor < worth.max(), "the example must have tokens on both sides"
    expected = -steps.by_row(torch.where(worth < floor, floor, worth), steps.score(given)) / len(worth)
    torch.testing.assert_close(steps.gradient(reopold(mixture=mixture), given), expected)


def test_the_floor_is_a_bound_for_a_teacher_mixed_with_the_student():
    ratios = torch.linspace(-30.0, 5.0, 200, dtype=torch.float64).exp()  # pi_T / pi_S
    for mixture in (0.1, 0.5, 0.9):
        mixed = (mixture + (1.0 - mixture) * ratios).log() / (1.0 - mixture)
        floor = reopold(mixture=mixture).terms[0].signal.advantage.floor
        assert mixed.min() == pytest.approx(floor, abs=1e-9)


def test_a_vanishing_share_has_no_floor_in_the_limit():
    given = one_response()
    tiny, none = (steps.gradient(reopold(mixture=mixture), given) for mixture in (1e-300, 0.0))
    torch.testing.assert_close(tiny, none, rtol=0.0, atol=0.0)


def test_from_the_switch_on_only_the_most_uncertain_tokens_count():
    given, recipe = one_response(), reopold(mixture=0.0, keep_first=0.8, keep_later=0.2, switch_step=7)
    entropy = torch.distributions.Categorical(logits=given.hidden.detach()).entropy()
    whole = 10 * steps.gradient(opd(), given)
    for at, num_kept in ((0, 8), (6, 8), (7, 2), (99, 2)):
        kept = entropy.argsort(descending=True)[:num_kept]
        expected = torch.zeros_like(whole)
        expected[kept] = whole[kept] / num_kept
        torch.testing.assert_close(steps.gradient(recipe, given, at=at), expected)


@pytest.mark.parametrize("knobs", [{"mixture": 1.0}, {"mixture": -0.1}, {"keep_first": 0.0}, {"keep_later": 1.5}])
def test_shares_that_mean_nothing_are_refused(knobs):
    with pytest.raises(ConfigError, match="reopold needs"):
        reopold(**knobs)
