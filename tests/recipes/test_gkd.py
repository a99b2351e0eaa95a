from math import log

import pytest
import torch

from enumeration import batch_of, kl, outcome, pair, reverse_kl_gradient
from tutelage.errors import ConfigError
from tutelage.recipes import gkd
from tutelage.rollouts.sources import MixedRollouts
from tutelage.types import Author


def divergence(recipe, student, teacher) -> float:
    return outcome(recipe, batch_of([0], torch.zeros(1)), student, teacher).loss


@pytest.mark.parametrize("seed", range(5))
def test_at_one_half_it_is_symmetric_and_at_most_log_2(seed):
    student, teacher = pair(seed=seed, spread=20.0)
    there, back = divergence(gkd(), student, teacher), divergence(gkd(), teacher, student)
    assert there == pytest.approx(back)
    assert 0.0 < there <= log(2.0)


def test_distributions_that_do_not_overlap_are_log_2_apart():
    student = torch.tensor([80.0, 0.0, 0.0, 80.0], dtype=torch.float64)
    teacher = torch.tensor([0.0, 80.0, 80.0, 0.0], dtype=torch.float64)
    assert divergence(gkd(), student, teacher) == pytest.approx(log(2.0), abs=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_it_is_zero_only_where_logits_differ_by_a_constant(beta):
    student, teacher = pair()
    same = outcome(gkd(beta=beta), batch_of([0], torch.zeros(1)), student, student + 3.0)
    assert abs(same.loss) < 1e-14
    assert same.gradient.abs().max() < 1e-14
    assert divergence(gkd(beta=beta), student, teacher) > 1e-3


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_between_the_ends_it_is_the_mixture_of_divergences_from_the_mixture(beta):
    student, teacher = pair()
    mixture = (beta * teacher.softmax(-1) + (1.0 - beta) * student.softmax(-1)).log()
    expected = beta * kl(teacher, mixture) + (1.0 - beta) * kl(student, mixture)
    assert divergence(gkd(beta=beta), student, teacher) == pytest.approx(expected)


def test_the_ends_are_the_two_kullback_leibler_divergences():
    student, teacher = pair()
    assert divergence(gkd(beta=0.0), student, teacher) == pytest.approx(kl(teacher, student))
    assert divergence(gkd(beta=1.0), student, teacher) == pytest.approx(kl(student, teacher))


def test_towards_the_ends_the_divergence_per_beta_tends_to_theirs_and_the_divergence_itself_to_zero():
    student, teacher = pair()
    small = 1e-6
    assert divergence(gkd(beta=small), student, teacher) / small == pytest.approx(kl(teacher, student), rel=1e-4)
    assert divergence(gkd(beta=1.0 - small), student, teacher) / small == pytest.approx(kl(student, teacher), rel=1e-4)


def test_gradients_at_the_ends_are_those_in_closed_form():
    student, teacher = pair()
    batch = batch_of([0], torch.zeros(1))
    forward, reverse = (outcome(gkd(beta=beta), batch, student, teacher).gradient[0] for beta in (0.0, 1.0))
    torch.testing.assert_close(forward, student.softmax(-1) - teacher.softmax(-1))
    torch.testing.assert_close(reverse, reverse_kl_gradient(student, teacher))


def test_tokens_of_the_data_count_as_much_as_the_students_own():
    student, teacher = pair()
    mixed = batch_of([0, 1, 2], torch.zeros(3), authors=[Author.STUDENT, Author.DATASET, Author.TEACHER])
    found = outcome(gkd(), mixed, student, teacher).gradient
    torch.testing.assert_close(found[0], found[1])
    assert found[0].abs().max() > 0.0
    assert found[2].abs().max() == 0.0, "a teacher's own text is no part of the method"


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_beta_outside_its_range_is_refused_with_the_range(beta):
    with pytest.raises(ConfigError, match=r"beta must be in \[0, 1\], got"):
        gkd(beta=beta)


def test_defaults_are_the_published_ones():
    rollouts = gkd().rollouts
    assert isinstance(rollouts, MixedRollouts)
    assert (rollouts.student_fraction, rollouts.otherwise, rollouts.sampling.temperature) == (0.5, "dataset", 1.0)
    assert gkd(beta=0.5) == gkd()
    with pytest.raises(ConfigError, match="student_fraction"):
        gkd(student_fraction=1.5)
