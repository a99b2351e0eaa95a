"""Restricted supports against enumeration: what each one keeps, bounds, forgets, or breaks."""

from math import e, inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutelage.math.divergences import forward_kl, jensen_shannon, reverse_kl, total_variation
from tutelage.math.supports import renormalise, rest_of, tail_of, top_entries, with_tail


def problem(rows: int = 3, vocab: int = 8, seed: int = 0, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    """Student logits that require a gradient, and a teacher's log-probabilities."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (spread * torch.randn(rows, vocab, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher.log_softmax(-1)


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    """Gradient of the sum with respect to the logits."""
    return torch.autograd.grad(value.sum(), logits, retain_graph=True)[0]


@pytest.mark.parametrize("k", [0, -1, 9])
def test_k_outside_the_vocabulary_is_refused(k: int):
    with pytest.raises(ValueError, match="1 <= k <= 8"):
        top_entries(problem()[1], k)


def test_top_entries_are_the_likeliest_in_order():
    _, teacher = problem()
    expected = teacher.argsort(dim=-1, descending=True)[:, :3]
    assert top_entries(teacher, 3).tolist() == expected.tolist()


@given(
    vocab=st.integers(2, 20),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 1_000),
    spread=st.sampled_from([0.1, 2.0, 50.0]),
    name=st.sampled_from(["reverse", "forward", "jensen_shannon", "total_variation"]),
)
def test_merging_the_tail_never_raises_a_divergence_and_changes_nothing_at_k_equal_to_the_vocabulary(
    vocab, share, seed, spread, name
):
    divergence = {
        "reverse": reverse_kl,
        "forward": forward_kl,
        "jensen_shannon": jensen_shannon,
        "total_variation": total_variation,
    }[name]
    logits, teacher = problem(2, vocab, seed, spread)
    student = logits.log_softmax(-1)
    ids = top_entries(teacher, max(1, round(share * vocab)))
    value = divergence(with_tail(student.gather(-1, ids), student, ids), with_tail(teacher.gather(-1, ids), teacher, ids))
    exact = divergence(student, teacher)
    assert (value <= exact * (1 + 1e-9) + 1e-9).all()
    assert value.isfinite().all()
    everything = top_entries(teacher, vocab)
    whole = divergence(
        with_tail(student.gather(-1, everything), student, everything),
        with_tail(teacher.gather(-1, everything), teacher, everything),
    )
    torch.testing.assert_close(whole, exact)


@given(vocab=st.integers(2, 20), k=st.integers(1, 19), seed=st.integers(0, 1_000), spread=st.sampled_from([0.1, 2.0, 1e4]))
def test_events_with_a_tail_are_a_distribution(vocab, k, seed, spread):
    _, teacher = problem(2, vocab, seed, spread)
    ids = top_entries(teacher, min(k, vocab))
    events = with_tail(teacher.gather(-1, ids), teacher, ids)
    torch.testing.assert_close(events.exp().sum(-1), torch.ones(2, dtype=torch.float64))


def test_the_gradient_through_the_tail_agrees_with_finite_differences():
    logits, teacher = problem(2, 6)
    ids = top_entries(teacher, 2)
    target = with_tail(teacher.gather(-1, ids), teacher, ids)

    def value(x: Tensor) -> Tensor:
        student = x.log_softmax(-1)
        return reverse_kl(with_tail(student.gather(-1, ids), student, ids), target)

    assert torch.autograd.gradcheck(value, (logits,))


def test_the_gradient_through_the_tail_is_finite_where_the_student_has_nothing_outside():
    logits = torch.tensor([[1.0, 0.0, -inf, -inf]], dtype=torch.float64, requires_grad=True)
    student, ids = logits.log_softmax(-1), torch.tensor([[0, 1]])
    teacher = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64).log()
    value = reverse_kl(with_tail(student.gather(-1, ids), student, ids), with_tail(teacher.gather(-1, ids), teacher, ids))
    assert value.isfinite().all()
    assert gradient(value, logits).isfinite().all()


def test_naive_truncation_carries_an_extra_gradient_that_pushes_mass_out_of_the_set():
    logits, teacher = problem()
    student = logits.log_softmax(-1)
    ids = top_entries(student, 3)
    own, theirs = student.gather(-1, ids), teacher.gather(-1, ids)
    naive = gradient(reverse_kl(own, theirs), logits)
    held = gradient((own.exp() * (own - theirs)).detach() * own, logits)
    extra = gradient(own.exp(), logits)
    torch.testing.assert_close(naive - held, extra)
    assert (extra.gather(-1, ids).sum(-1) > 0.0).all()
    whole = top_entries(student, 8)
    none_left = gradient(student.gather(-1, whole).exp(), logits)
    torch.testing.assert_close(none_left, torch.zeros_like(none_left), atol=1e-15, rtol=0.0)


@pytest.mark.parametrize(("factor", "promoted"), [(0.9 * e, False), (1.1 * e, True)])
def test_naive_truncation_promotes_a_kept_token_only_if_the_teacher_gives_it_e_times_as_much(factor: float, promoted: bool):
    student = torch.tensor([[0.2, 0.1, 0.3, 0.4]], dtype=torch.float64).log()
    logits = student.clone().requires_grad_()
    teacher = torch.tensor([[0.2 * factor]], dtype=torch.float64).log()
    ids = torch.tensor([[0]])
    slope = gradient(reverse_kl(logits.log_softmax(-1).gather(-1, ids), teacher), logits)[0]
    assert (slope[0] < 0.0) == promoted


def test_naive_truncation_can_be_negative_and_falls_when_mass_leaks_out_of_the_set():
    teacher = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    ids = torch.tensor([[0, 1]])
    proportional = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    leaked = torch.tensor([[0.25, 0.15, 0.6]], dtype=torch.float64)
    inside, outside = (reverse_kl(p.log().gather(-1, ids), teacher.gather(-1, ids)) for p in (proportional, leaked))
    assert inside.item() == pytest.approx(0.0, abs=1e-15)
    assert outside.item() == pytest.approx(0.4 * torch.tensor(0.5).log().item(), rel=1e-6)


def test_clamping_a_truncated_value_at_zero_would_kill_the_gradient_and_ours_lives():
    teacher = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    logits = torch.tensor([[0.25, 0.15, 0.6]], dtype=torch.float64).log().requires_grad_()
    ids = torch.tensor([[0, 1]])
    value = reverse_kl(logits.log_softmax(-1).gather(-1, ids), teacher.gather(-1, ids))
    assert gradient(value.clamp(min=0.0), logits).abs().max() == 0.0
    assert gradient(value, logits).norm() > 0.05


def test_a_renormalised_set_of_one_is_identically_zero():
    logits, teacher = problem()
    student = logits.log_softmax(-1)
    ids = top_entries(teacher, 1)
    value = reverse_kl(renormalise(student.gather(-1, ids)), renormalise(teacher.gather(-1, ids)))
    assert value.abs().max() == 0.0
    assert gradient(value, logits).abs().max() == 0.0


@given(seed=st.integers(0, 1_000), k=st.integers(1, 8), shift=st.floats(-20.0, 20.0))
def test_a_renormalised_divergence_is_not_negative_and_forgets_how_much_mass_is_kept(seed, k, shift):
    logits, teacher = problem(seed=seed)
    ids = top_entries(teacher, k)
    kept = logits.log_softmax(-1).gather(-1, ids)
    value = reverse_kl(renormalise(kept), renormalise(teacher.gather(-1, ids)))
    assert (value >= -1e-12).all()
    torch.testing.assert_close(reverse_kl(renormalise(kept + shift), renormalise(teacher.gather(-1, ids))), value)


def test_the_tail_from_the_kept_entries_alone_is_what_is_missing_from_one():
    _, teacher = problem()
    ids = top_entries(teacher, 3)
    kept = teacher.gather(-1, ids)
    torch.testing.assert_close(tail_of(kept).exp(), 1.0 - kept.exp().sum(-1, keepdim=True))
    torch.testing.assert_close(tail_of(kept), rest_of(teacher, ids))


def test_kept_entries_that_round_to_more_than_one_leave_a_finite_tail():
    kept = torch.tensor([[0.6, 0.4]], dtype=torch.float64).log().float() + 1e-4
    tail = tail_of(kept)
    assert tail.isfinite().all()
    assert tail.exp().item() <= 1e-6


def test_the_rest_keeps_its_digits_where_almost_nothing_is_left():
    logits = torch.tensor([[30.0, 0.0, 0.5]])
    expected = torch.tensor([[0.0, 0.5]], dtype=torch.float64).logsumexp(-1, keepdim=True) - logits.double().logsumexp(
        -1, keepdim=True
    )
    rest = rest_of(logits.log_softmax(-1), torch.tensor([[0]]))
    torch.testing.assert_close(rest.double(), expected, rtol=1e-6, atol=0.0)
