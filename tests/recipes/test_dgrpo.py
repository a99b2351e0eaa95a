import pytest
import torch

import steps
from tutelage.recipes import dgrpo, grpo
from tutelage.recipes.white_box import gkd

RESPONSES, GROUPS = [[0, 1], [2, 3], [4, 5]], [0, 0, 0]


def three_responses(*rewards: float):
    """Of one length, so that a mean over tokens is one over responses."""
    tables = {"student": steps.logits(6), "teacher": steps.logits(6, seed=1)}
    return steps.step(*RESPONSES, **tables, groups=GROUPS, rewards=rewards)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_the_gradient_is_that_of_grpo_and_that_of_the_reverse_kl(beta):
    given = three_responses(1.0, 0.0, 0.0)
    divergence = steps.token_kl_gradient(given.hidden.detach(), given.teachers["teacher"].hidden) / 6
    torch.testing.assert_close(steps.gradient(dgrpo(beta=beta), given), steps.gradient(grpo(), given) + beta * divergence)


def test_without_a_weight_it_is_grpo():
    given = three_responses(1.0, 0.0, 0.5)
    torch.testing.assert_close(steps.gradient(dgrpo(beta=0.0), given), steps.gradient(grpo(), given))


def test_equal_rewards_leave_the_divergence_alone():
    given = three_responses(1.0, 1.0, 1.0)
    full = gkd(beta=1.0, student_fraction=1.0)
    torch.testing.assert_close(steps.gradient(dgrpo(beta=2.0), given), 2.0 * steps.gradient(full, given))
