"""Coefficients against sums by hand; splitting a step in any way changes nothing, over processes as well."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import dense
from parallel import in_processes
from tutelage import objectives as o
from tutelage.errors import ConfigError
from tutelage.objectives.plan import statistics_needed
from tutelage.types import Author, Gather, StepBatch
from tutelage.types.schedules import Linear
from tutelage.weighting import EntropyAbove, TrustMask

REDUCTIONS = [o.TokenMean(), o.SequenceMean(), o.Constant(divisor=7.0)]
MIXED = (Author.STUDENT, Author.STUDENT, Author.DATASET, Author.STUDENT)


def terms(reduction: o.Term | object = o.TokenMean()) -> list[o.Term]:
    """Three terms of every kind of weight."""
    return [
        o.Term(name="a", signal=o.ReverseKL(), weights=(EntropyAbove(quantile=0.5),), reduction=reduction, scale=0.7),
        o.Term(name="b", signal=o.ScoreFunction(), weights=(TrustMask(),), reduction=reduction),
        o.Term(name="c", signal=o.CrossEntropy(), on=("dataset",), reduction=reduction, scale=2.0),
    ]


def measured(problem: dense.Problem) -> dict[str, Tensor]:
    """Statistics of a whole step."""
    return o.measure(problem.batch, hidden=problem.hidden, head=problem.head, teachers=problem.teachers)


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda reduction: reduction.kind)
def test_coefficients_are_shares_of_the_tokens_a_term_acts_on(reduction):
    batch = dense.problem(lengths=(4, 2, 3), authors=MIXED).batch
    assert batch.author.tolist() == [1, 1, 3, 1, 1, 1, 3, 1, 1]
    term = o.Term(name="a", signal=o.ReverseKL(), reduction=reduction, scale=2.0)
    expected = {
        "token_mean": [1 / 7] * 9,
        "sequence_mean": [1 / 9, 1 / 9, 0, 1 / 9, 1 / 6, 1 / 6, 0, 1 / 6, 1 / 6],
        "constant": [1 / 21] * 9,
    }[reduction.kind]
    mask = (batch.author == int(Author.STUDENT)).double()
    torch.testing.assert_close(o.plan([term], batch).coefficients[0], 2.0 * mask * torch.tensor(expected, dtype=torch.float64))


def test_a_scale_may_move_with_the_step():
    batch = dense.problem().batch
    term = o.Term(name="a", signal=o.ReverseKL(), scale=Linear(start=0.0, end=1.0, steps=10))
    assert o.plan([term], batch, step=0).coefficients.abs().max() == 0.0
    assert not o.plan([term], batch, step=0).acting.any()
    assert o.plan([term], batch, step=5).coefficients.sum().item() == pytest.approx(0.5)


def test_a_term_does_not_dilute_another():
    problem = dense.problem(authors=MIXED)
    both = o.plan(terms(), problem.batch, measured=measured(problem))
    for index, term in enumerate(terms()):
        alone = o.plan([term], problem.batch, measured=measured(problem))
        torch.testing.assert_close(both.coefficients[index], alone.coefficients[0], rtol=0.0, atol=0.0)
        torch.testing.assert_close(both.weights[index], alone.weights[0], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda reduction: reduction.kind)
def test_dropped_rollouts_do_not_dilute_the_others(reduction):
    problem = dense.problem(lengths=(4, 2, 3, 5))
    term = o.Term(name="a", signal=o.ReverseKL(), reduction=reduction)
    rows = problem.batch.rows_of([0, 2])
    kept = dense.select(problem, rows)
    fewer = StepBatch.of([problem.batch.rollouts[0], problem.batch.rollouts[2]])
    torch.testing.assert_close(o.plan([term], kept.batch).coefficients, o.plan([term], fewer).coefficients, rtol=0.0, atol=0.0)
    torch.testing.assert_close(dense.evaluate([term], kept).loss, dense.loss([term], kept).detach())


def test_a_weight_that_needs_an_unmeasured_statistic_is_refused():
    batch = dense.problem().batch
    with pytest.raises(ConfigError, match=r"'student_entropy_nats'.*not measured"):
        o.plan(terms(), batch)


def test_only_step_weights_ask_for_statistics():
    assert statistics_needed(terms()) == {"student_entropy_nats"}
    assert statistics_needed(terms()[1:]) == frozenset()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 100),
    pieces=st.integers(1, 6),
    reduction=st.sampled_from(REDUCTIONS),
    lengths=st.lists(st.integers(0, 7), min_size=2, max_size=6).filter(lambda lengths: sum(lengths) > 0),
)
def test_no_split_and_no_order_of_the_rows_changes_loss_or_gradient(seed, pieces, reduction, lengths):
    problem = dense.problem(lengths=lengths, authors=MIXED, dtype=torch.float32, seed=seed)
    whole = o.plan(terms(reduction), problem.batch, measured=measured(problem))
    expected = dense.evaluate_plan(whole, problem, statistics=True)
    wanted = dense.gradients(expected.loss, problem)
    order = torch.randperm(problem.batch.num_rows, generator=torch.Generator().manual_seed(seed))
    found, total = torch.zeros(()), [torch.zeros_like(leaf) for leaf in problem.leaves]
    for rows in order.chunk(pieces):
        part = dense.select(problem, rows)
        evaluation = dense.evaluate_plan(whole.select(rows), part, statistics=True)
        torch.testing.assert_close(evaluation.statistics["reverse_kl_nats"], expected.statistics["reverse_kl_nats"][rows])
        found = found + evaluation.loss.detach()
        gradients = torch.autograd.grad(evaluation.loss, problem.leaves)
        total = [so_far + gradient for so_far, gradient in zip(total, gradients, strict=True)]
    scale = sum(abs(value) for value in expected.terms.values())
    assert abs(float(found) - expected.loss.item()) <= 1e-6 * max(scale, 1e-3)
    for ours, theirs in zip(total, wanted, strict=True):
        assert (ours - theirs).norm() <= 1e-6 * max(float(theirs.norm()), 1e-3)


@settings(max_examples=40)
@given(seed=st.integers(0, 50), cut=st.integers(0, 4), reduction=st.sampled_from(REDUCTIONS))
def test_two_processes_get_the_plan_of_one(seed, cut, reduction):
    problem = dense.problem(lengths=(4, 2, 3, 5), authors=MIXED, seed=seed)
    statistics = measured(problem)
    whole = o.plan(terms(reduction), problem.batch, measured=statistics)
    halves = [problem.batch.rollout < cut, problem.batch.rollout >= cut]

    def process(mask: Tensor) -> Callable[[Gather], o.Plan]:
        rows = mask.nonzero().squeeze(-1)
        mine = {name: values[rows] for name, values in statistics.items()}
        return lambda gather: o.plan(terms(reduction), problem.batch.select(rows), measured=mine, gather=gather)

    plans = in_processes([process(mask) for mask in halves])
    torch.testing.assert_close(torch.cat([plan.coefficients for plan in plans], dim=1), whole.coefficients, rtol=0.0, atol=0.0)
    torch.testing.assert_close(torch.cat([plan.weights for plan in plans], dim=1), whole.weights, rtol=0.0, atol=0.0)


def test_a_quantile_over_a_micro_batch_would_be_another_one():
    problem = dense.problem(lengths=(12, 12), seed=1)
    statistics = measured(problem)
    entropies = statistics["student_entropy_nats"]
    order = entropies.argsort()
    term = o.Term(name="a", signal=o.ReverseKL(), weights=(EntropyAbove(quantile=0.5),))
    whole = o.plan([term], problem.batch, measured=statistics).weights[0]
    low = order[:12]
    alone = o.plan([term], problem.batch.select(low), measured={"student_entropy_nats": entropies[low]}).weights[0]
    assert whole[low].sum() <= 1.0
    assert alone.sum() >= 6.0
