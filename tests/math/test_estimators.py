"""Estimators by enumeration: every token of a small vocabulary, weighted by its probability, in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutelage.math.divergences import forward_kl, reverse_kl, total_variation
from tutelage.math.estimators import (
    acceptance,
    banded_score_function,
    clipped_score_function,
    k1,
    k2,
    k3,
    kl_baseline,
    score_function,
    truncated_score_function,
)


def problem(vocab: int = 7, seed: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """Student logits that require a gradient, and a teacher's log-probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(vocab, generator=generator, dtype=torch.float64)
    teacher = spread * torch.randn(vocab, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), teacher.log_softmax(-1)


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    """Gradient with respect to the logits."""
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


def mean_over(sampler: Tensor, per_token: Tensor) -> Tensor:
    """Exact expectation of a per-token quantity; the sampling is held fixed."""
    return (sampler.detach().exp() * per_token).sum()


@given(vocab=st.integers(2, 12), seed=st.integers(0, 1_000))
def test_k1_is_unbiased_in_value_and_has_no_gradient_on_average(vocab, seed):
    logits, teacher = problem(vocab, seed)
    student = logits.log_softmax(-1)
    expectation = mean_over(student, k1(teacher - student))
    torch.testing.assert_close(expectation, reverse_kl(student, teacher))
    found = gradient(expectation, logits)
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-13, rtol=0.0)


@given(vocab=st.integers(2, 12), seed=st.integers(0, 1_000))
def test_gradient_of_k2_is_that_of_reverse_kl_although_its_value_is_not(vocab, seed):
    logits, teacher = problem(vocab, seed)
    student = logits.log_softmax(-1)
    expectation = mean_over(student, k2(teacher - student))
    torch.testing.assert_close(gradient(expectation, logits), gradient(reverse_kl(student, teacher), logits))
    assert (expectation - reverse_kl(student, teacher)).abs() > 1e-6


@given(vocab=st.integers(2, 12), seed=st.integers(0, 1_000))
def test_k3_is_unbiased_in_value_and_its_gradient_is_that_of_forward_kl(vocab, seed):
    logits, teacher = problem(vocab, seed)
    student = logits.log_softmax(-1)
    per_token = k3(teacher - student)
    assert (per_token >= 0.0).all()
    expectation = mean_over(student, per_token)
    torch.testing.assert_close(expectation, reverse_kl(student, teacher))
    torch.testing.assert_close(gradient(expectation, logits), gradient(forward_kl(student, teacher), logits))


def test_k3_under_a_differentiated_importance_ratio_has_the_gradient_of_reverse_kl():
    logits, teacher = problem()
    student = logits.log_softmax(-1)
    ratio = (student - student.detach()).exp()
    expectation = mean_over(student, ratio * k3(teacher - student))
    torch.testing.assert_close(gradient(expectation, logits), gradient(reverse_kl(student, teacher), logits))


def test_k3_of_a_tiny_log_ratio_keeps_its_digits():
    log_ratio = torch.tensor([1e-4], dtype=torch.float64)
    assert k3(log_ratio).item() == pytest.approx(0.5e-8 + 1e-12 / 6.0, rel=1e-6)


@given(vocab=st.integers(2, 12), seed=st.integers(0, 1_000))
def test_score_function_has_the_gradient_of_reverse_kl_on_average(vocab, seed):
    logits, teacher = problem(vocab, seed)
    student = logits.log_softmax(-1)
    surrogate = score_function(student, teacher - student)
    torch.testing.assert_close(gradient(mean_over(student, surrogate), logits), gradient(reverse_kl(student, teacher), logits))


@given(seed=st.integers(0, 1_000), baseline=st.floats(-50.0, 50.0))
def test_a_baseline_that_ignores_the_token_leaves_the_mean_gradient_alone(seed, baseline):
    logits, teacher = problem(seed=seed)
    student = logits.log_softmax(-1)
    surrogate = score_function(student, teacher - student - baseline)
    torch.testing.assert_close(gradient(mean_over(student, surrogate), logits), gradient(reverse_kl(student, teacher), logits))


def test_a_penalty_that_ignores_the_action_has_no_gradient_on_average():
    logits, teacher = problem()
    student = logits.log_softmax(-1)
    penalty = reverse_kl(student, teacher).detach().expand_as(student)
    found = gradient(mean_over(student, score_function(student, -penalty)), logits)
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-14, rtol=0.0)


def test_the_importance_ratio_makes_tokens_of_another_sampler_unbiased_and_without_it_they_are_not():
    logits, teacher = problem()
    sampler = problem(seed=3)[1]
    student = logits.log_softmax(-1)
    exact = gradient(reverse_kl(student, teacher), logits)
    weighted = score_function(student, teacher - student, log_ratio_to_behaviour=student - sampler)
    torch.testing.assert_close(gradient(mean_over(sampler, weighted), logits), exact)
    plain = gradient(mean_over(sampler, score_function(student, teacher - student)), logits)
    assert (plain - exact).norm() > 0.05 * exact.norm()


def test_a_filtered_sampler_biases_the_score_function():
    logits, teacher = problem()
    student = logits.log_softmax(-1)
    nucleus = student.detach().masked_fill(student < student.topk(4).values[-1], float("-inf")).log_softmax(-1)
    exact = gradient(reverse_kl(student, teacher), logits)
    found = gradient(mean_over(nucleus, score_function(student, teacher - student)), logits)
    assert (found - exact).norm() > 0.05 * exact.norm()


def test_the_advantage_carries_no_gradient():
    logits, teacher = problem()
    student = logits.log_softmax(-1)
    live = gradient(score_function(student, teacher - student).sum(), logits)
    held = gradient(-((teacher - student).detach() * student).sum(), logits)
    torch.testing.assert_close(live, held)


def test_the_score_function_is_unbiased_on_the_two_numbers_on_which_a_binary_kl_sees_only_a_part():
    logits, teacher = problem(vocab=9, seed=5)
    student = logits.log_softmax(-1)
    best = int(teacher.argmax())
    captured = torch.zeros((), dtype=torch.float64)
    for token in range(9):
        ids = sorted({best, token})
        own, theirs = (torch.cat([x[ids], torch.log1p(-x[ids].exp().sum()).reshape(1)]) for x in (student, teacher))
        captured = captured + student[token].exp().detach() * reverse_kl(own, theirs)
    exact = reverse_kl(student, teacher)
    assert 0.0 < captured < 0.9 * exact
    lost = gradient(captured, logits) - gradient(exact, logits)
    assert lost.norm() > 0.05 * gradient(exact, logits).norm()
    unbiased = gradient(mean_over(student, score_function(student, teacher - student)), logits)
    torch.testing.assert_close(unbiased, gradient(exact, logits))


def test_stop_gradient_rewards_are_right_for_reverse_kl_only():
    logits, teacher = problem()
    student = logits.log_softmax(-1)
    u = (teacher - student).detach().exp()
    naive = gradient(mean_over(student, score_function(student, -(u * u.log()))), logits)
    corrected = gradient(mean_over(student, score_function(student, u)), logits)
    exact = gradient(forward_kl(student, teacher), logits)
    torch.testing.assert_close(corrected, exact)
    assert (naive - exact).norm() > 0.05 * exact.norm()


def test_the_baseline_is_the_mean_of_minus_the_log_ratio_and_lowers_the_variance():
    lowered = 0
    for seed in range(40):
        logits, teacher = problem(vocab=12, seed=seed)
        student = logits.log_softmax(-1)
        baseline = kl_baseline(student, teacher)
        assert not baseline.requires_grad
        log_ratio = (teacher - student).detach()
        torch.testing.assert_close(baseline, mean_over(student, -log_ratio))
        scores = torch.eye(12, dtype=torch.float64) - student.detach().exp()

        def spread(advantage: Tensor, scores: Tensor = scores, student: Tensor = student) -> float:
            """Trace of the covariance of the one-token gradient."""
            samples = advantage.unsqueeze(-1) * scores
            probabilities = student.detach().exp().unsqueeze(-1)
            mean = (probabilities * samples).sum(0)
            return float((probabilities * (samples - mean).square()).sum())

        lowered += spread(log_ratio + baseline) < spread(log_ratio)
    assert lowered >= 30


def test_the_baseline_on_all_entries_is_the_full_one_and_on_a_few_is_renormalised_within_them():
    logits, teacher = problem()
    student = logits.detach().log_softmax(-1)
    torch.testing.assert_close(kl_baseline(student, teacher, k=7), kl_baseline(student, teacher))
    top = student.exp().argsort(descending=True)[:3]
    p, q = student.exp()[top], teacher.exp()[top]
    p, q = p / p.sum(), q / q.sum()
    torch.testing.assert_close(kl_baseline(student, teacher, k=3), (p * (p / q).log()).sum())


@given(vocab=st.integers(2, 12), seed=st.integers(0, 1_000))
def test_mean_acceptance_is_one_minus_total_variation(vocab, seed):
    logits, teacher = problem(vocab, seed)
    student = logits.log_softmax(-1)
    kept = acceptance(teacher - student)
    assert not kept.requires_grad
    assert ((kept >= 0.0) & (kept <= 1.0)).all()
    torch.testing.assert_close(mean_over(student, kept), 1.0 - total_variation(student, teacher))
    torch.testing.assert_close(acceptance(torch.zeros(3)), torch.ones(3), rtol=0.0, atol=0.0)


RATIO_FORMS = {
    "truncated": lambda own, mu, worth: truncated_score_function(own, mu, worth, cap=float("inf")),
    "banded": lambda own, mu, worth: banded_score_function(own, mu, worth, low=0.0, high=float("inf")),
    "clipped": lambda own, mu, worth: clipped_score_function(own, mu, worth, low=1.0, high=float("inf")),
}


@pytest.mark.parametrize("form", RATIO_FORMS.values(), ids=RATIO_FORMS.keys())
def test_without_a_bound_every_ratio_is_unbiased_for_tokens_of_another_sampler(form):
    logits, teacher = problem(seed=3)
    behaviour = problem(seed=4)[1]
    student = logits.log_softmax(-1)
    found = gradient(mean_over(behaviour, form(student, behaviour, (teacher - student).detach())), logits)
    torch.testing.assert_close(found, gradient(reverse_kl(student, teacher), logits))


@pytest.mark.parametrize("form", RATIO_FORMS.values(), ids=RATIO_FORMS.keys())
def test_on_policy_every_ratio_is_the_plain_score_function(form):
    logits, teacher = problem(seed=5)
    student = logits.log_softmax(-1)
    worth = (teacher - student).detach()
    plain = gradient(mean_over(student, score_function(student, worth)), logits)
    torch.testing.assert_close(gradient(mean_over(student, form(student, student.detach(), worth)), logits), plain)


@pytest.mark.parametrize("worth", [2.0, -2.0])
@pytest.mark.parametrize("rho", [0.5, 0.75, 1.0, 1.25, 1.5, 4.0])
def test_a_clipped_token_has_no_gradient_only_where_the_ratio_has_gone_the_way_the_advantage_asks(rho, worth):
    own = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    behaviour = own.detach() - torch.tensor(rho, dtype=torch.float64).log()
    surrogate = clipped_score_function(own, behaviour, torch.tensor([worth], dtype=torch.float64), low=0.4, high=0.3, dual=3.0)
    beyond = (worth > 0 and rho > 1.3) or (worth < 0 and (rho < 0.6 or rho > 3.0))
    expected = 0.0 if beyond else -rho * worth
    torch.testing.assert_close(gradient(surrogate.sum(), own), torch.tensor([expected], dtype=torch.float64))
    gain = -surrogate.item()
    assert (gain <= 1.3 * worth + 1e-12) if worth > 0 else (gain >= 3.0 * worth - 1e-12)


def test_a_truncated_token_weighs_the_cap_and_a_token_outside_the_band_nothing():
    own = torch.log(torch.tensor([0.2, 0.2, 0.2], dtype=torch.float64)).requires_grad_()
    behaviour = torch.log(torch.tensor([0.4, 0.2, 0.02], dtype=torch.float64))  # rho 0.5, 1, 10
    worth = torch.ones(3, dtype=torch.float64)
    capped = gradient(truncated_score_function(own, behaviour, worth, cap=5.0).sum(), own)
    torch.testing.assert_close(capped, -torch.tensor([0.5, 1.0, 5.0], dtype=torch.float64))
    banded = gradient(banded_score_function(own, behaviour, worth, low=0.6, high=5.0).sum(), own)
    torch.testing.assert_close(banded, -torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
