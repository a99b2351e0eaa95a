"""Signals that look at more than one token: returns, groups, pairs; and those that look at something else than tokens."""

from dataclasses import replace

import pytest
import torch

import dense
from tutelage import objectives as o
from tutelage.errors import ConfigError
from tutelage.types import Author, SampledSignal, SpanSignal
from tutelage.weighting import EntropyAbove, TrustMask

ADVANTAGES = {
    "return": o.LogRatio(discount=1.0),
    "discounted": o.LogRatio(discount=0.7, coefficient=0.5, relative_to="student"),
    "length-normalised": o.LogRatio(discount=0.9, length_normalised=True),
    "bounded": o.LogRatio(bound=0.4),
    "corrected for the forward KL": o.LogRatio(divergence="forward_kl", bound=3.0),
    "corrected for the Jensen-Shannon divergence, to go": o.LogRatio(divergence="jensen_shannon", shape=0.3, discount=0.5),
    "bounded return": o.LogRatio(bound=0.4, discount=0.5),
    "batch mean": o.LogRatio(baseline=o.BatchMean()),
    "leave one out": o.LogRatio(baseline=o.LeaveOneOut(), relative_to="student"),
    "leave one out of returns": o.LogRatio(baseline=o.LeaveOneOut(), discount=1.0),
    "group": o.GroupRelative(),
    "group without scale": o.GroupRelative(scale="none"),
    "group, others": o.GroupRelative(baseline="others", scale="none"),
    "group, population deviation": o.GroupRelative(sample_deviation=False),
}
RATIOS = {
    "none": o.NoRatio(),
    "whole": o.Importance(),
    "truncated": o.Importance(cap=1.05),
    "clipped": o.Clipped(low=0.1, high=0.15),
    "clipped twice": o.Clipped(low=0.1, high=0.1, dual=1.2),
    "band": o.Band(low=0.8, high=1.2),
}
OTHERS: dict[str, o.AnySignal] = {
    **{
        f"{estimator}, importance {importance}": o.SampledKL(estimator=estimator, importance=importance)
        for estimator in ("k1", "k2", "k3")
        for importance in ("none", "detached", "differentiated")
    },
    "teacher's choice": o.CrossEntropy(target="teacher_choice"),
    "teacher's distribution": o.CrossEntropy(target="teacher"),
    "smoothed token": o.CrossEntropy(smoothing=0.1),
    "smoothed teacher": o.CrossEntropy(target="teacher", smoothing=0.2),
    "entropy": o.NegativeEntropy(),
    "hidden, squared": o.HiddenMatch(),
    "hidden, normalised": o.HiddenMatch(normalised=True),
    "hidden, cosine": o.HiddenMatch(distance="cosine"),
}
PAIRS = {
    f"{loss}, {'mean' if mean else 'sum'}": o.Preference(loss=loss, length_normalised=mean, beta=0.3)
    for loss in ("dpo", "logistic", "odds_ratio")
    for mean in (False, True)
}


def grouped(**options: object) -> dense.Problem:
    """Five responses to two prompts, with rewards; one has none."""
    given: dict[str, object] = {
        "lengths": (5, 1, 8, 3, 4),
        "groups": (0, 0, 1, 1, 1),
        "rewards": (1.0, 0.0, None, 0.25, -0.5),
        "teacher_width": 5,
        "seed": 7,
    }
    return dense.problem(**(given | options))  # type: ignore[arg-type]


def assert_same(terms: list[o.Term], given: dense.Problem) -> None:
    """Value and gradients of the fused head are those of the dense computation."""
    expected, found = dense.loss(terms, given), dense.evaluate(terms, given)
    torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-6, atol=1e-9)
    for ours, theirs in zip(dense.gradients(found.loss, given), dense.gradients(expected, given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("ratio", RATIOS.values(), ids=RATIOS.keys())
@pytest.mark.parametrize("advantage", ADVANTAGES.values(), ids=ADVANTAGES.keys())
def test_every_advantage_under_every_ratio_is_what_the_dense_computation_gives(advantage, ratio):
    assert_same([o.Term(name="loss", signal=o.ScoreFunction(advantage=advantage, ratio=ratio))], grouped())


@pytest.mark.parametrize("signal", OTHERS.values(), ids=OTHERS.keys())
def test_every_other_signal_is_what_the_dense_computation_gives(signal):
    assert_same([o.Term(name="loss", signal=signal)], grouped())


@pytest.mark.parametrize("signal", PAIRS.values(), ids=PAIRS.keys())
def test_a_preference_has_the_value_and_the_gradient_of_its_loss_over_both_responses(signal):
    assert_same([o.Term(name="loss", signal=signal, reduction=o.Sum(), scale=0.7)], grouped())


@pytest.mark.parametrize("loss", ["dpo", "logistic", "odds_ratio"])
def test_pairs_of_authors_prefer_what_the_student_did_not_write(loss):
    authors = [*[Author.TEACHER] * 5, Author.STUDENT, *[Author.STUDENT] * 8, *[Author.DATASET] * 3, *[Author.STUDENT] * 4]
    term = o.Term(
        name="loss",
        signal=o.Preference(loss=loss, pairs="author"),
        reduction=o.Sum(),
        on=("student", "teacher", "dataset"),
    )
    assert_same([term], grouped(authors=authors))


def test_signals_of_all_kinds_add_up_under_weights():
    terms = [
        o.Term(name="return", signal=o.ScoreFunction(advantage=o.LogRatio(discount=0.5)), weights=(TrustMask(),)),
        o.Term(name="bonus", signal=o.NegativeEntropy(), scale=0.01),
        o.Term(name="states", signal=o.HiddenMatch(), weights=(TrustMask(inside=False),), reduction=o.SequenceMean()),
        o.Term(name="plain", signal=o.HiddenMatch(distance="cosine"), weights=(EntropyAbove(quantile=0.4),)),
    ]
    assert_same(terms, grouped())


@pytest.mark.parametrize(
    "term",
    [
        o.Term(name="loss", signal=o.ScoreFunction(advantage=o.LogRatio(discount=0.7, baseline=o.LeaveOneOut()))),
        o.Term(name="loss", signal=o.Preference(), reduction=o.Sum()),
        o.Term(name="loss", signal=o.HiddenMatch()),
    ],
    ids=["returns", "pairs", "states"],
)
def test_a_step_may_be_split_between_the_tokens_of_one_response(term):
    given = grouped()
    measured = o.measure(given.batch, hidden=given.hidden, head=given.head, teachers=given.teachers)
    plan = o.plan([term], given.batch, measured=measured)
    whole = dense.evaluate_plan(plan, given)
    expected = dense.gradients(whole.loss, given)
    order = torch.randperm(given.batch.num_rows, generator=torch.Generator().manual_seed(1))
    total, sums = 0.0, [torch.zeros_like(leaf) for leaf in given.leaves]
    for rows in order.split(4):
        part = dense.select(given, rows)
        found = dense.evaluate_plan(plan.select(rows), part)
        total += float(found.loss.detach())
        for place, gradient in enumerate(torch.autograd.grad(found.loss, given.leaves)):
            sums[place] += gradient
    assert total == pytest.approx(float(whole.loss.detach()), rel=1e-9)
    for ours, theirs in zip(sums, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("length_normalised", [False, True])
def test_spans_weigh_the_likelihood_of_their_own_tokens_only(length_normalised):
    given = grouped()
    rows = given.batch.num_rows
    weight, length = torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.float64)
    weight[1:4], length[1:4] = 0.8, 3.0
    weight[9:11], length[9:11] = -0.2, 2.0
    given = replace(given, teachers=given.teachers | {"judge": SpanSignal(weight=weight, length=length)})
    term = o.Term(name="loss", signal=o.SpanLikelihood(length_normalised=length_normalised), teacher="judge")
    assert_same([term], given)


def test_a_bonus_at_the_uniform_distribution_is_the_logarithm_of_the_vocabulary_and_pulls_nowhere():
    given = grouped()
    flat = replace(given, head=replace(given.head, weight=torch.zeros_like(given.head.weight).requires_grad_()))
    found = dense.evaluate([o.Term(name="bonus", signal=o.NegativeEntropy())], flat)
    assert float(found.loss.detach()) == pytest.approx(-torch.tensor(11.0).log().item())
    for gradient in dense.gradients(found.loss, flat):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_states_of_different_width_are_refused_with_both_widths():
    with pytest.raises(ConfigError, match="have 5 numbers and the teacher's 9"):
        dense.evaluate([o.Term(name="loss", signal=o.HiddenMatch())], grouped(teacher_width=9))


@pytest.mark.parametrize(
    ("signal", "reason"), [(o.HiddenMatch(), "does not provide them"), (o.SpanLikelihood(), "weights of spans")]
)
def test_a_teacher_without_states_or_spans_is_refused(signal, reason):
    given = grouped()
    served = {"teacher": SampledSignal(sampled=torch.zeros(given.batch.num_rows, dtype=torch.float64))}
    with pytest.raises(ConfigError, match=reason):
        dense.evaluate([o.Term(name="loss", signal=signal)], replace(given, teachers=served))


def test_a_return_without_its_measurement_is_refused_by_name():
    term = o.Term(name="far", signal=o.ScoreFunction(advantage=o.LogRatio(discount=1.0)))
    with pytest.raises(ConfigError, match=r"'far'.*teacher_log_prob.*not measured"):
        o.plan([term], grouped().batch)


def test_a_signal_of_the_whole_step_is_refused_outside_of_a_plan():
    given = grouped()
    term = o.Term(name="group", signal=o.ScoreFunction(advantage=o.GroupRelative()))
    plan = o.plan([term], given.batch)
    with pytest.raises(ConfigError, match=r"only objectives\.plan can compute"):
        dense.evaluate_plan(replace(plan, credits=(None,)), given)
