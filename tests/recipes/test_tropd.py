from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from enumeration import batch_of, every_token, mean_over, outcome, pair
from tutelage.errors import ConfigError
from tutelage.objectives import ForwardKL, TopK
from tutelage.recipes import opd, tropd
from tutelage.rollouts.sources import StudentRollouts, TeacherPrefixRollouts
from tutelage.types import Author
from tutelage.types.schedules import value_at

VOCAB, K = 7, 3
ALMOST_ONE = 1.0 - 2.0**-24


def forward_kl_gradient(student, teacher, kept):
    """On some entries, both sides conditioned on them."""
    gradient = torch.zeros_like(student)
    gradient[kept] = student[kept].softmax(-1) - teacher[kept].softmax(-1)
    return gradient


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_acceptance_under_the_student_is_one_minus_the_total_variation(seed):
    student, teacher = pair(VOCAB, seed=seed)
    draws = (torch.arange(400) + 0.5) / 400
    kept = []
    for token in range(VOCAB):
        behaviour = student.log_softmax(-1)[token].expand(len(draws))
        batch = batch_of([token] * len(draws), behaviour, noise=draws)
        kept.append(outcome(tropd(k=K), batch, student, teacher).evaluation.weights["trusted"])
    mean = float((student.softmax(-1) * torch.tensor(kept, dtype=torch.float64)).sum())
    variation = 0.5 * float((student.softmax(-1) - teacher.softmax(-1)).abs().sum())
    assert mean == pytest.approx(1.0 - variation, abs=1.0 / len(draws))


def test_a_token_is_trusted_or_an_outlier_never_both():
    student, teacher = pair(VOCAB)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        noise = torch.rand(VOCAB, generator=generator)
        batch = batch_of(range(VOCAB), student.log_softmax(-1), noise=noise)
        found = outcome(tropd(k=K), batch, student, teacher).evaluation.weights
        assert found["trusted"] + found["outlier"] == pytest.approx(1.0)


def test_the_mean_gradient_is_the_trusted_score_function_plus_the_share_of_outliers_in_forward_kl():
    student, teacher = pair(VOCAB)
    own, theirs = student.softmax(-1), teacher.softmax(-1)
    accept = torch.minimum(theirs / own, torch.ones(VOCAB, dtype=torch.float64))
    recipe = tropd(k=K)
    inside, outside = (every_token(recipe, student, teacher, noise=noise) for noise in (0.0, ALMOST_ONE))
    found = mean_over(own * accept, inside) + mean_over(own * (1.0 - accept), outside)
    worth = accept * (teacher.log_softmax(-1) - student.log_softmax(-1))
    trusted = -own * (worth - (own * worth).sum())
    outliers = float((own * (1.0 - accept)).sum()) * forward_kl_gradient(student, teacher, theirs.topk(K).indices)
    torch.testing.assert_close(found, trusted + outliers)


@pytest.mark.parametrize("noise", [0.0, 0.5, ALMOST_ONE])
def test_a_student_equal_to_its_teacher_trusts_everything_and_gets_no_gradient(noise):
    student, _ = pair(VOCAB)
    batch = batch_of(range(VOCAB), student.log_softmax(-1), noise=torch.full((VOCAB,), noise))
    found = outcome(tropd(k=K), batch, student, student)
    assert found.evaluation.weights["trusted"] == 1.0
    assert found.evaluation.weights["outlier"] == 0.0
    assert found.gradient.abs().max() < 1e-14


@pytest.mark.parametrize("noise", [0.0, 0.5, ALMOST_ONE])
def test_with_every_token_trusted_and_no_prefix_it_is_opd(noise):
    student, teacher = pair(VOCAB)
    forced = every_token(tropd(k=K, forced_trust=True, prefix_steps=0), student, teacher, noise=noise)
    torch.testing.assert_close(forced, every_token(opd(), student, teacher))
    assert tropd(prefix_steps=0).rollouts == opd().rollouts


def test_the_teachers_prefix_has_a_denominator_of_its_own():
    student, teacher = pair(VOCAB)
    kept = teacher.topk(K).indices
    expected = 0.001 * forward_kl_gradient(student, teacher, kept)
    for tokens, authors in (
        ([1, 2], [Author.TEACHER]),
        ([1, 0, 2, 0], [Author.TEACHER, Author.STUDENT]),
        ([1, 0, 0, 2, 0, 0], [Author.TEACHER, Author.STUDENT, Author.STUDENT]),
    ):
        batch = batch_of(tokens, student.log_softmax(-1)[tokens], authors=authors)
        found = outcome(tropd(k=K), batch, student, teacher).gradient
        prefix = found[batch.author == int(Author.TEACHER)]
        torch.testing.assert_close(prefix, expected.expand(2, VOCAB) / 2)


def test_the_prefix_falls_along_a_cosine_and_is_gone_after_its_steps():
    rollouts = tropd().rollouts
    assert isinstance(rollouts, TeacherPrefixRollouts)
    shares = [value_at(rollouts.prefix_fraction, step) for step in range(0, 260, 10)]
    assert shares[0] == 1.0
    assert shares[10] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(shares[:21]))
    assert shares[20:] == [0.0] * 6


def test_without_guidance_the_student_writes_alone():
    recipe = tropd(prefix_steps=0)
    assert isinstance(recipe.rollouts, StudentRollouts)
    assert [term.name for term in recipe.terms] == ["trusted", "outlier"]


def test_a_step_that_the_teacher_wrote_alone_teaches_by_its_prefix_only():
    student, teacher = pair(VOCAB)
    found = outcome(tropd(k=K), batch_of([1, 2], torch.zeros(2), authors=[Author.TEACHER]), student, teacher)
    assert found.evaluation.terms["trusted"] == found.evaluation.terms["outlier"] == 0.0
    assert found.evaluation.terms["prefix"] > 0.0


@pytest.mark.parametrize("rest", ["tail", "renormalise", "truncate"])
def test_at_k_equal_to_the_vocabulary_nothing_is_left_over_whatever_becomes_of_the_rest(rest):
    student, teacher = pair(VOCAB)
    found = every_token(tropd(k=VOCAB, rest=rest), student, teacher, noise=ALMOST_ONE)
    whole = replace(tropd(), terms=tuple(replace(t, signal=ForwardKL()) if t.name == "outlier" else t for t in tropd().terms))
    torch.testing.assert_close(found, every_token(replace(whole, terms=whole.terms[:2]), student, teacher, noise=ALMOST_ONE))


def test_defaults_are_the_published_ones():
    recipe = tropd()
    outlier = recipe.terms[1].signal
    assert isinstance(outlier, ForwardKL)
    assert outlier.support == TopK(k=64, chosen_by="teacher", rest="renormalise")
    assert recipe.terms[2].scale == 0.001
    assert recipe.rollouts.sampling.n == 4
    assert recipe.needs == {"sampled", "top_k"}


def test_a_k_of_zero_is_refused():
    with pytest.raises(ConfigError, match="k >= 1"):
        tropd(k=0)
