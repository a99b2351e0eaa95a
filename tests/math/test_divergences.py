"""Divergences against closed forms, another library, and finite differences."""

from math import exp, inf, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from tutelage.math.divergences import entropy, forward_kl, jensen_shannon, reverse_kl, total_variation

DIVERGENCES = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "jensen_shannon_0.5": jensen_shannon,
    "jensen_shannon_0.1": lambda student, teacher: jensen_shannon(student, teacher, beta=0.1),
    "total_variation": total_variation,
}
every_divergence = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES.keys())


def pair(*shape: int, seed: int = 0, spread: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits of a student and log-probabilities of a teacher."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (spread * torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.to(dtype), teacher.log_softmax(-1).to(dtype)


def test_both_kl_directions_agree_with_torch_distributions():
    student, teacher = pair(3, 4, 11)
    ours, theirs = Categorical(logits=student), Categorical(logits=teacher)
    torch.testing.assert_close(reverse_kl(student.log_softmax(-1), teacher), kl_divergence(ours, theirs))
    torch.testing.assert_close(forward_kl(student.log_softmax(-1), teacher), kl_divergence(theirs, ours))
    torch.testing.assert_close(entropy(student.log_softmax(-1)), ours.entropy())


def test_two_coins_have_the_divergences_of_the_textbook():
    student, teacher = torch.tensor([0.5, 0.5], dtype=torch.float64).log(), torch.tensor([0.9, 0.1], dtype=torch.float64).log()
    assert reverse_kl(student, teacher).item() == pytest.approx(0.5 * log(0.5 / 0.9) + 0.5 * log(0.5 / 0.1))
    assert forward_kl(student, teacher).item() == pytest.approx(0.9 * log(0.9 / 0.5) + 0.1 * log(0.1 / 0.5))
    assert total_variation(student, teacher).item() == pytest.approx(0.4)
    assert entropy(student).item() == pytest.approx(log(2.0))


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon_is_its_definition_with_explicit_probabilities(beta: float):
    student, teacher = pair(5, 7)
    p, q = student.softmax(-1), teacher.exp()
    mixture = beta * q + (1.0 - beta) * p
    expected = beta * torch.special.xlogy(q, q / mixture).sum(-1) + (1.0 - beta) * torch.special.xlogy(p, p / mixture).sum(-1)
    torch.testing.assert_close(jensen_shannon(p.log(), teacher, beta=beta), expected)


def test_jensen_shannon_is_symmetric_at_one_half_and_at_most_log_two():
    student, teacher = pair(50, 9, spread=30.0)
    own = student.log_softmax(-1)
    value = jensen_shannon(own, teacher)
    torch.testing.assert_close(value, jensen_shannon(teacher, own))
    assert value.max() <= log(2.0) + 1e-12
    disjoint = torch.tensor([0.0, -inf]), torch.tensor([-inf, 0.0])
    assert jensen_shannon(*disjoint).item() == pytest.approx(log(2.0))


def test_jensen_shannon_tends_to_the_kls_when_divided_by_the_vanishing_share():
    student, teacher = pair(4, 6)
    own = student.log_softmax(-1)
    torch.testing.assert_close(jensen_shannon(own, teacher, beta=1e-7) / 1e-7, forward_kl(own, teacher), rtol=1e-4, atol=0.0)
    torch.testing.assert_close(
        jensen_shannon(own, teacher, beta=1 - 1e-7) / 1e-7, reverse_kl(own, teacher), rtol=1e-4, atol=0.0
    )


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_jensen_shannon_refuses_the_ends_where_it_is_zero_for_every_student(beta: float):
    with pytest.raises(ValueError, match="0 < beta < 1"):
        jensen_shannon(*pair(2, 3), beta=beta)


def test_detaching_the_student_outside_the_mixture_would_cancel_the_gradient_and_ours_does_not():
    logits, teacher = pair(8)
    logits.requires_grad_()
    student = logits.log_softmax(-1)
    mixture = torch.logaddexp(teacher, student) - log(2.0)
    p = student.detach().exp()
    broken = 0.5 * (teacher.exp() * (teacher - mixture)).sum() + 0.5 * (p * (student.detach() - mixture)).sum()
    lost = torch.autograd.grad(broken, logits, retain_graph=True)[0]
    torch.testing.assert_close(lost, torch.zeros_like(lost), atol=1e-15, rtol=0.0)
    assert torch.autograd.grad(jensen_shannon(student, teacher), logits)[0].norm() > 1e-2


@every_divergence
def test_gradients_agree_with_finite_differences(divergence):
    logits, teacher = pair(2, 5)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: divergence(x.log_softmax(-1), teacher), (logits,))


def test_logit_gradients_are_those_that_the_docstrings_state():
    logits, teacher = pair(3, 7)
    logits.requires_grad_()
    student = logits.log_softmax(-1)
    p, ratio = student.detach().exp(), (student - teacher).detach()
    reverse = torch.autograd.grad(reverse_kl(student, teacher).sum(), logits, retain_graph=True)[0]
    torch.testing.assert_close(reverse, p * (ratio - (p * ratio).sum(-1, keepdim=True)))
    forward = torch.autograd.grad(forward_kl(student, teacher).sum(), logits)[0]
    torch.testing.assert_close(forward, p - teacher.exp())


@every_divergence
def test_equal_distributions_have_no_divergence_and_no_gradient(divergence):
    logits, _ = pair(4, 9)
    logits.requires_grad_()
    value = divergence(logits.log_softmax(-1), logits.detach().log_softmax(-1))
    torch.testing.assert_close(value, torch.zeros_like(value), atol=1e-14, rtol=0.0)
    gradient = torch.autograd.grad(value.sum(), logits)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-14, rtol=0.0)


@every_divergence
@given(
    vocab=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    shift=st.floats(-1e4, 1e4),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 1e2, 1e4]),
)
def test_divergences_are_not_negative_and_ignore_a_constant_added_to_all_logits(divergence, vocab, seed, shift, spread):
    student, teacher = pair(2, vocab, seed=seed, spread=spread)
    value = divergence(student.log_softmax(-1), teacher)
    assert value.isfinite().all()
    assert (value >= -1e-12).all()
    torch.testing.assert_close(divergence((student + shift).log_softmax(-1), teacher), value, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_divergence
def test_extreme_logits_leave_values_and_gradients_finite(divergence, dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 1e4]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 0.0, 0.0]], dtype=dtype).log_softmax(-1)
    value = divergence(logits.log_softmax(-1), teacher)
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


@every_divergence
def test_entries_that_both_sides_rule_out_change_nothing(divergence):
    logits, teacher = pair(3, 5)
    barred = torch.full((3, 2), -inf, dtype=torch.float64)
    wide = torch.cat([logits, barred], dim=-1).requires_grad_()
    value = divergence(wide.log_softmax(-1), torch.cat([teacher, barred], dim=-1))
    torch.testing.assert_close(value, divergence(logits.log_softmax(-1), teacher))
    narrow = logits.requires_grad_()
    expected = torch.autograd.grad(divergence(narrow.log_softmax(-1), teacher).sum(), narrow)[0]
    gradient = torch.autograd.grad(value.sum(), wide)[0]
    torch.testing.assert_close(gradient, torch.cat([expected, torch.zeros(3, 2, dtype=torch.float64)], dim=-1))


def test_zero_times_log_zero_is_zero_and_mass_where_the_other_has_none_is_infinite():
    certain, fair = torch.tensor([0.0, -inf]), torch.tensor([0.5, 0.5]).log()
    assert reverse_kl(certain, fair).item() == pytest.approx(log(2.0))
    assert forward_kl(certain, fair).item() == inf
    assert reverse_kl(fair, certain).item() == inf
    assert entropy(certain).item() == 0.0


def test_gradients_stay_finite_where_the_student_rules_entries_out():
    logits = torch.tensor([1.0, 2.0, -inf], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64).log()
    for divergence in (reverse_kl, jensen_shannon, total_variation):
        gradient = torch.autograd.grad(divergence(logits.log_softmax(-1), teacher), logits)[0]
        assert gradient.isfinite().all()


def test_the_entry_cap_bounds_each_term_from_above_and_stops_its_gradient():
    student = torch.tensor([0.001, 0.499, 0.5], dtype=torch.float64).log().requires_grad_()
    teacher = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
    terms = [0.6 * log(0.6 / 0.001), 0.3 * log(0.3 / 0.499), 0.1 * log(0.1 / 0.5)]
    value = forward_kl(student, teacher, entry_cap=0.05)
    assert value.item() == pytest.approx(0.05 + terms[1] + terms[2])
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], torch.tensor([0.0, -0.3, -0.1], dtype=torch.float64))
    torch.testing.assert_close(forward_kl(student, teacher, entry_cap=1e3), forward_kl(student, teacher))


def test_pinsker_bounds_total_variation():
    student, teacher = pair(200, 6, spread=3.0)
    own = student.log_softmax(-1)
    assert (total_variation(own, teacher) <= (0.5 * reverse_kl(own, teacher)).sqrt() + 1e-12).all()
    assert (total_variation(own, teacher) <= 1.0).all()


def test_a_small_divergence_in_float32_is_right_to_well_below_a_micronat():
    logits, _ = pair(64, 5_000, spread=4.0)
    nearby = (logits + 1e-3 * torch.randn_like(logits)).log_softmax(-1)
    exact = reverse_kl(logits.log_softmax(-1), nearby)
    single = reverse_kl(logits.log_softmax(-1).float(), nearby.float())
    assert exact.min() > 1e-8
    assert (single - exact).abs().max() < 1e-6
    difference_of_entropies = -(logits.softmax(-1).float() * nearby.float()).sum(-1) - entropy(logits.log_softmax(-1).float())
    assert (single - exact).abs().mean() <= (difference_of_entropies - exact).abs().mean()


def test_a_product_of_experts_minimises_reverse_kls_and_a_mean_forward_kls():
    _, first = pair(6, seed=1)
    _, second = pair(6, seed=2)
    product = (0.5 * (first + second)).log_softmax(-1).requires_grad_()
    mean = (0.5 * (first.exp() + second.exp())).log().requires_grad_()
    for optimum, divergence in ((product, reverse_kl), (mean, forward_kl)):
        own = optimum.log_softmax(-1)
        value = 0.5 * (divergence(own, first) + divergence(own, second))
        gradient = torch.autograd.grad(value, optimum)[0]
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-14, rtol=0.0)
    log_z = (0.5 * (first + second)).logsumexp(-1)
    own = product.log_softmax(-1)
    torch.testing.assert_close(0.5 * (reverse_kl(own, first) + reverse_kl(own, second)), -log_z)
    assert exp(log_z.item()) < 1.0
