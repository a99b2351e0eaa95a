import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, make, moments, token_level
from tutelage.recipes import exopd, opd
from tutelage.teachers.parts import Frozen, ModelTeacher, SelfTeacher

VOCAB = 6


def tables(rows: int = VOCAB, seed: int = 0):
    return [steps.logits(1, VOCAB, seed=seed + place).expand(rows, VOCAB) for place in (0, 100, 200)]


def every_token(student, **teachers):
    """All tokens once, each a response of its own."""
    return steps.step(*[[token] for token in range(VOCAB)], student=student, **teachers)


@pytest.mark.parametrize("lam", [0.5, 1.25, 1.5])
def test_the_mean_gradient_is_that_of_both_reverse_kls_in_their_shares(lam):
    student, teacher, reference = tables()
    found = VOCAB * steps.gradient(
        exopd(extrapolation=lam, importance_cap=None), every_token(student, teacher=teacher, reference=reference)
    )
    mean = (student[0].softmax(-1).unsqueeze(-1) * found).sum(0)
    expected = lam * steps.token_kl_gradient(student, teacher) + (1.0 - lam) * steps.token_kl_gradient(student, reference)
    torch.testing.assert_close(mean, expected[0])


def test_over_all_responses_the_same_holds_prefix_by_prefix():
    world = make(Size(vocab=3, length=3), seed=2, teachers=("teacher", "reference"))
    found = moments(world, exopd(extrapolation=1.5, n=1)).gradient
    reference = moments(world, exopd(extrapolation=0.0, n=1)).gradient
    torch.testing.assert_close(found, 1.5 * token_level(world).gradient - 0.5 * reference)


def test_the_advantage_is_the_scaled_reward_less_the_pull_to_the_reference():
    student, teacher, reference = tables()
    given = every_token(student, teacher=teacher, reference=reference)
    own, theirs, origin = (steps.log_prob(given, table) for table in (student, teacher, reference))
    advantage = 1.25 * (theirs - origin) - (own - origin)
    torch.testing.assert_close(steps.gradient(exopd(), given), -steps.by_row(advantage, steps.score(given)) / VOCAB)


@pytest.mark.parametrize("seed", range(3))
def test_without_extrapolation_it_is_opd_with_the_same_cap_whatever_the_reference(seed):
    student, teacher, reference = tables(seed=seed)
    given = every_token(student, teacher=teacher, reference=reference)
    recipe = exopd(extrapolation=1.0, reference="folder")
    assert recipe.references == {}
    torch.testing.assert_close(steps.gradient(recipe, given), steps.gradient(opd(importance_cap=5.0), given))


def test_at_nothing_only_the_reference_pulls():
    student, teacher, reference = tables()
    given = every_token(student, teacher=teacher, reference=reference)
    of_reference = every_token(student, teacher=reference)
    torch.testing.assert_close(
        steps.gradient(exopd(extrapolation=0.0), given), steps.gradient(opd(importance_cap=5.0), of_reference)
    )


@pytest.mark.parametrize("lam", [0.5, 1.0, 1.25, 1.5])
def test_at_the_best_student_every_token_is_worth_the_same(lam):
    _, teacher, reference = tables()
    best = lam * teacher.log_softmax(-1) + (1.0 - lam) * reference.log_softmax(-1)  # logits of pi_T^lam pi_R^(1 - lam)
    given = every_token(best, teacher=teacher, reference=reference)
    found = VOCAB * steps.gradient(exopd(extrapolation=lam), given)
    worth = -found.diagonal() / steps.score(given).diagonal()
    torch.testing.assert_close(worth, worth[:1].expand(VOCAB))
    assert (best[0].softmax(-1).unsqueeze(-1) * found).sum(0).abs().max() < 1e-14


def test_the_cap_bounds_the_ratio_of_both_parts():
    student, teacher, reference = tables()
    behaviour = steps.logits(1, VOCAB, seed=9)[0].log_softmax(-1)
    given = every_token(student, teacher=teacher, reference=reference, behaviour=behaviour)
    ratio = (student[0].log_softmax(-1) - behaviour).exp()
    assert ratio.min() < 0.5 < ratio.max()
    whole, capped = (steps.gradient(exopd(importance_cap=cap), given) for cap in (None, 0.5))
    torch.testing.assert_close(capped, steps.by_row(ratio.clamp(max=0.5) / ratio, whole))


def test_the_reference_is_the_student_before_training_unless_one_is_named():
    unnamed, named = exopd("a").references["reference"], exopd("a", reference="b").references["reference"]
    assert isinstance(unnamed, SelfTeacher)
    assert unnamed.update == Frozen()
    assert isinstance(named, ModelTeacher)
    assert named.model == "b"


def test_a_cap_of_zero_is_refused():
    with pytest.raises(ConfigError, match="cap > 0"):
        exopd(importance_cap=0.0)
