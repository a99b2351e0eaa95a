from dataclasses import replace

import pytest
import torch

import steps
from tutelage.recipes import Recipe, grpo, sdpo, srpo

VOCAB = 6
RESPONSES, GROUPS = [[0, 1], [2, 3], [4, 5], [0, 2], [1, 3]], [0, 0, 0, 1, 1]


def made(**knobs: object) -> Recipe:
    """With all entries."""
    return srpo(**({"k": VOCAB} | knobs))


def five_responses(*rewards: float | None, untaught: tuple[int, ...] = ()):
    """Of one length, so that a mean over tokens is one over responses."""
    tables = {"student": steps.logits(10), "teacher": steps.logits(10, seed=1)}
    given = steps.step(*RESPONSES, **tables, groups=GROUPS, rewards=rewards)
    taught = ~torch.isin(given.batch.rollout, torch.tensor(untaught, dtype=torch.long))
    return replace(given, batch=replace(given.batch, taught={"teacher": taught}))


MIXED = (1.0, 0.0, 0.2, 0.0, 0.3)
"""Of the second prompt no response is right."""


def parts(given, *distilled: int) -> torch.Tensor:
    """True on the rows of some responses."""
    return torch.isin(given.batch.rollout, torch.tensor(distilled, dtype=torch.long))


def test_wrong_responses_that_can_be_taught_are_distilled_and_all_others_get_their_reward():
    given = five_responses(*MIXED, untaught=(0, 3, 4))
    mine = parts(given, 1, 2)
    alone = five_responses(*MIXED, untaught=(0, 3, 4))
    found, reward, distilled = (
        steps.gradient(recipe, alone) for recipe in (made(certainty=0.0), grpo(clip_high=0.28), sdpo(k=VOCAB))
    )
    torch.testing.assert_close(found[~mine], reward[~mine])
    torch.testing.assert_close(found[mine], distilled[mine] * 4 / 10)  # sdpo counts the distilled tokens only, this all ten
    assert reward[mine].abs().max() > 0.0, "the reward alone would have moved them otherwise"


def test_all_right_is_grpo():
    given = five_responses(1.0, 0.6, 0.8, 0.9, 0.5)
    torch.testing.assert_close(steps.gradient(made(), given), steps.gradient(grpo(clip_high=0.28), given))


def test_all_wrong_and_all_taught_is_sdpo():
    given = five_responses(*[0.0] * 5)
    torch.testing.assert_close(steps.gradient(made(certainty=0.0), given), steps.gradient(sdpo(k=VOCAB), given))


def test_all_wrong_and_nobody_taught_teaches_nothing():
    given = five_responses(*[0.0] * 5, untaught=(0, 1, 2, 3, 4))
    assert steps.gradient(made(), given).abs().max() == 0.0


def test_a_response_that_was_not_judged_is_not_taken_for_wrong():
    given = five_responses(1.0, None, 0.0, 0.0, 0.0)
    assert steps.gradient(made(), given)[parts(given, 1)].abs().max() == 0.0


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_a_sure_teachers_tokens_count_for_more_and_the_mean_weight_is_one(rate):
    given = five_responses(*MIXED)
    mine = parts(given, 1, 2, 3, 4)
    entropy = torch.distributions.Categorical(logits=given.teachers["teacher"].hidden).entropy()
    size = (-rate * entropy).exp()
    weight = size / size[mine].mean()
    found, alike = (steps.gradient(made(certainty=each), given) for each in (rate, 0.0))
    torch.testing.assert_close(found[mine], steps.by_row(weight, alike)[mine])
    assert weight[mine].mean() == pytest.approx(1.0)
    torch.testing.assert_close(found[~mine], alike[~mine])
