import pytest
import torch

from enumeration import batch_of, every_token, kl, mean_over, outcome, pair, reverse_kl_gradient
from tutelage.errors import ConfigError
from tutelage.recipes import opd
from tutelage.rollouts.sources import StudentRollouts


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_gradient_over_all_tokens_is_that_of_the_reverse_kl(seed):
    student, teacher = pair(seed=seed)
    found = mean_over(student.softmax(-1), every_token(opd(), student, teacher))
    torch.testing.assert_close(found, reverse_kl_gradient(student, teacher))


def test_the_mean_advantage_is_minus_the_reverse_kl():
    student, teacher = pair()
    losses = [
        outcome(opd(), batch_of([token], student.log_softmax(-1)[token].reshape(1)), student, teacher).loss
        for token in range(len(student))
    ]  # on-policy the ratio is one, so a token's loss is minus its advantage
    mean = sum(p * loss for p, loss in zip(student.softmax(-1).tolist(), losses, strict=True))
    assert mean == pytest.approx(kl(student, teacher))


def test_tokens_of_another_sampler_are_weighed_by_the_ratio_of_student_to_sampler():
    student, teacher = pair()
    behaviour = pair(seed=9)[0].log_softmax(-1)
    found = mean_over(behaviour.exp(), every_token(opd(), student, teacher, behaviour=behaviour))
    own, worth = student.softmax(-1), teacher.log_softmax(-1) - behaviour
    torch.testing.assert_close(found, -own * (worth - (own * worth).sum()))  # -grad of the mean of the worth under pi_S


def test_the_importance_cap_bounds_the_ratio():
    student, teacher = pair()
    behaviour = pair(seed=9)[0].log_softmax(-1)
    ratio = (student.log_softmax(-1) - behaviour).exp()
    assert ratio.min() < 0.5 < ratio.max(), "the example must have ratios on both sides of the cap"
    whole = every_token(opd(), student, teacher, behaviour=behaviour)
    capped = every_token(opd(importance_cap=0.5), student, teacher, behaviour=behaviour)
    torch.testing.assert_close(capped, whole * (ratio.clamp(max=0.5) / ratio).unsqueeze(-1))


def test_the_coefficient_is_a_factor():
    student, teacher = pair()
    torch.testing.assert_close(every_token(opd(coefficient=3.0), student, teacher), 3.0 * every_token(opd(), student, teacher))


def test_a_student_equal_to_its_teacher_gets_no_gradient():
    student, _ = pair()
    assert every_token(opd(), student, student + 5.0).abs().max() < 1e-14


def test_defaults_are_the_published_ones():
    recipe = opd("folder")
    assert isinstance(recipe.rollouts, StudentRollouts)
    assert recipe.rollouts.sampling.n == 4
    assert recipe.rollouts.sampling.temperature == recipe.rollouts.sampling.top_p == 1.0
    assert recipe.needs == {"sampled"}, "one number per token, whatever the vocabulary"
    assert opd(coefficient=1.0) == opd()


def test_a_cap_of_zero_is_refused():
    with pytest.raises(ConfigError, match="cap > 0"):
        opd(importance_cap=0.0)
