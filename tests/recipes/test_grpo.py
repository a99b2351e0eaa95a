from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch

import steps
import tables
from tutelage.credit import GroupRelative
from tutelage.lab.exact import Size, make, moments
from tutelage.objectives import NoRatio, ScoreFunction
from tutelage.recipes import grpo

VOCAB = 6
RESPONSES, GROUPS, REWARDS = [[0, 1, 2], [3, 4], [5], [0, 1], [2]], [0, 0, 0, 1, 1], [1.0, 0.0, 0.3, None, 1.0]
TOKENS = 9


def five_responses(rewards=REWARDS, **more):
    return steps.step(*RESPONSES, student=steps.logits(TOKENS), groups=GROUPS, rewards=rewards, **more)


def worth_by_hand(rewards) -> list[float]:
    """One advantage per response."""
    found = [0.0] * len(rewards)
    for group in set(GROUPS):
        judged = [index for index, reward in enumerate(rewards) if GROUPS[index] == group and reward is not None]
        if len(judged) > 1:
            values = [rewards[index] for index in judged]
            for index in judged:
                found[index] = (rewards[index] - fmean(values)) / (stdev(values) + 1e-4)
    return found


def test_every_token_has_its_responses_advantage_and_every_response_one_share():
    given = five_responses()
    worth = worth_by_hand(REWARDS)
    assert sum(worth[:3]) == pytest.approx(0.0, abs=1e-12)
    assert worth[3:] == [0.0, 0.0], "one judged response is no group"
    lengths = [len(response) for response in RESPONSES]
    share = [worth[index] / lengths[index] / 5 for index in given.batch.rollout.tolist()]
    expected = -steps.by_row(torch.tensor(share, dtype=torch.float64), steps.score(given))
    torch.testing.assert_close(steps.gradient(grpo(), given), expected)


@pytest.mark.parametrize("reward", [0.0, 1.0, -3.5])
def test_equal_rewards_in_a_group_give_no_gradient(reward):
    assert steps.gradient(grpo(), five_responses([reward] * 5)).abs().max() == 0.0


def test_rewards_that_are_moved_and_stretched_say_the_same():
    moved = [None if reward is None else 1000.0 * reward + 7.0 for reward in REWARDS]
    found, expected = (steps.gradient(grpo(), five_responses(rewards)) for rewards in (moved, REWARDS))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0.0)  # but for the epsilon beside the deviation


@pytest.mark.parametrize(("shift", "gone"), [(0.5, True), (0.1, False), (-0.5, False)])
def test_a_good_token_that_has_already_become_likelier_by_more_than_the_clip_gains_nothing(shift, gone):
    student = steps.logits(TOKENS)
    fresh = steps.log_prob(five_responses(), student)
    found = steps.gradient(grpo(), five_responses(behaviour=fresh - shift))[:3]  # of the best response
    assert bool((found == 0.0).all()) is gone


def test_the_anchor_is_an_estimate_of_the_divergence_from_the_student_before():
    before = steps.logits(TOKENS, seed=1)
    given = five_responses(reference=before)
    more = steps.gradient(grpo(kl=0.04), given) - steps.gradient(grpo(), given)
    ratio = (steps.log_prob(given, before) - steps.log_prob(given, given.hidden)).exp()
    lengths = torch.tensor([len(RESPONSES[index]) for index in given.batch.rollout.tolist()], dtype=torch.float64)
    slope = 0.04 * (1.0 - ratio) / lengths / 5  # of r - 1 - log r with respect to log pi_S
    torch.testing.assert_close(more, steps.by_row(slope, steps.score(given)))


def test_without_scale_and_with_the_others_mean_its_gradient_is_that_of_the_expected_reward():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    world = replace(make(Size(vocab=2, length=2), seed=3), rewards=rewards)
    expected = torch.zeros_like(world.student)
    for response in range(len(world.responses)):
        reward = float(world.rewards[0, response])
        expected -= tables.chance(world, response) * reward * tables.scores(world, response).sum(0) / 2  # a mean over tokens
    assert expected.norm() > 0.01

    def mean(advantage: GroupRelative) -> torch.Tensor:
        recipe = grpo(n=2)
        signal = ScoreFunction(advantage=advantage, ratio=NoRatio())
        return moments(world, replace(recipe, terms=(replace(recipe.terms[0], signal=signal),))).gradient

    torch.testing.assert_close(mean(GroupRelative(baseline="others", scale="none")), expected)
    own = mean(GroupRelative(scale="none"))
    torch.testing.assert_close(own, expected / 2)  # each response's own reward is half of the mean of two
    assert not torch.allclose(mean(GroupRelative()), expected, rtol=0.1)
