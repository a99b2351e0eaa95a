import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.objectives import Reshaped
from tutelage.recipes import grpo, rlsd
from tutelage.teachers.parts import Periodic, ReferenceSolution, SelfTeacher

RESPONSES, GROUPS = [[0, 1], [2, 3], [4, 5]], [0, 0, 0]


def three_responses(*, distance: float = 0.3, rewards=(1.0, 0.0, 0.0)):
    """Of one length, so that a mean over tokens is one over responses."""
    student = steps.logits(6)
    teacher = student + distance * steps.logits(6, seed=1)
    return steps.step(*RESPONSES, student=student, teacher=teacher, groups=GROUPS, rewards=rewards)


def worths(recipe, given, *, at: int = 0) -> torch.Tensor:
    """What each token was worth: on fresh samples the gradient is minus that times the score, over the tokens."""
    return -6 * steps.gradient(recipe, given, at=at)[:, 0] / steps.score(given)[:, 0]


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
def test_the_advantage_is_the_papers(strength):
    given = three_responses()
    worth = worths(grpo(), given)
    delta = steps.log_prob(given, given.teachers["teacher"].hidden) - steps.log_prob(given, given.hidden)
    factor = (worth.sign() * delta).exp()
    assert factor.min() < 0.8 < 1.2 < factor.max(), "the example must reach both ends of the clip"
    expected = worth * ((1.0 - strength) + strength * factor.clamp(0.8, 1.2))
    torch.testing.assert_close(worths(rlsd(strength=strength), given), expected)


@pytest.mark.parametrize("distance", [0.1, 1.0, 10.0])
def test_the_reward_has_the_sign_and_the_teacher_moves_the_size_by_a_bounded_share(distance):
    given = three_responses(distance=distance)
    plain, found = worths(grpo(), given), worths(rlsd(), given)
    assert (found.sign() == plain.sign()).all()
    assert ((found - plain).abs() <= 0.5 * 0.2 * plain.abs() + 1e-12).all()
    assert (found - plain).abs().max() > 0.0


def test_a_teacher_that_says_what_the_student_says_leaves_grpo():
    given = three_responses(distance=0.0)
    torch.testing.assert_close(steps.gradient(rlsd(), given), steps.gradient(grpo(), given))


def test_the_teachers_share_fades_to_grpo():
    given = three_responses()
    plain = worths(grpo(), given)
    more = [worths(rlsd(strength_steps=50), given, at=at) - plain for at in (0, 25, 50, 200)]
    torch.testing.assert_close(more[1], 0.5 * more[0])
    for late in more[2:]:
        assert late.abs().max() < 1e-12


def test_a_clip_of_nothing_leaves_the_rewards_advantage():
    given = three_responses()
    torch.testing.assert_close(steps.gradient(rlsd(reshape_clip=0.0), given), steps.gradient(grpo(), given))


def test_equal_rewards_teach_nothing_however_the_teacher_sees_it():
    assert steps.gradient(rlsd(), three_responses(rewards=(1.0, 1.0, 1.0))).abs().max() == 0.0


def test_the_teacher_reads_the_answer_and_is_renewed_from_time_to_time():
    assert rlsd().teacher == SelfTeacher(update=Periodic(every=10), context=ReferenceSolution(column="answer"))


@pytest.mark.parametrize("clip", [1.0, -0.1])
def test_a_clip_that_could_turn_or_erase_an_advantage_is_refused(clip):
    with pytest.raises(ConfigError, match="0 <= clip < 1"):
        Reshaped(clip=clip)
