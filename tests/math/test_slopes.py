"""Closed-form slopes against automatic differentiation of the definitions, which are tested against other truths."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.math import divergences, slopes

CASES = {
    "reverse_kl": (divergences.reverse_kl, lambda p, q, r: slopes.reverse_kl(p, r)),
    "forward_kl": (divergences.forward_kl, lambda p, q, r: slopes.forward_kl(q, r)),
    "capped": (
        partial(divergences.forward_kl, entry_cap=0.05),
        lambda p, q, r: slopes.forward_kl(q, r, entry_cap=0.05),
    ),
    "jensen_shannon_0.1": (
        partial(divergences.jensen_shannon, beta=0.1),
        lambda p, q, r: slopes.jensen_shannon(p, q, r, beta=0.1),
    ),
    "jensen_shannon_0.5": (divergences.jensen_shannon, partial(slopes.jensen_shannon, beta=0.5)),
}


@pytest.mark.parametrize(("definition", "closed"), CASES.values(), ids=CASES.keys())
@given(vocab=st.integers(1, 30), seed=st.integers(0, 1_000), spread=st.sampled_from([1e-3, 1.0, 10.0, 100.0]))
def test_value_and_logit_gradient_are_those_of_the_definition(definition, closed, vocab, seed, spread):
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = (spread * torch.randn(3, vocab, generator=generator, dtype=torch.float64) for _ in range(2))
    logits, teacher = logits.requires_grad_(), teacher.log_softmax(-1)
    student = logits.log_softmax(-1)
    expected = definition(student, teacher)
    p, q, ratio = student.detach().exp(), teacher.exp(), teacher - student.detach()
    value, slope = closed(p, q, ratio)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-9, atol=1e-12)
    gradient = slopes.logit_gradient(slope, p)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0], rtol=1e-9, atol=1e-12)


def test_a_multiple_of_the_students_probabilities_has_no_logit_gradient():
    p = torch.randn(4, 9, dtype=torch.float64).softmax(-1)
    slope = torch.randn(4, 9, dtype=torch.float64)
    shifted = slopes.logit_gradient(slope + 7.0 * p, p)
    torch.testing.assert_close(shifted, slopes.logit_gradient(slope.clone(), p))
    torch.testing.assert_close(shifted.sum(-1), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("distance", [1e-5, 1e-3, 1e-1, 3.0])
def test_both_kls_keep_their_digits_in_float32_down_to_piconats(distance):
    logits = 4.0 * torch.randn(20, 5_000)
    other = logits + distance * torch.randn(20, 5_000)
    own, theirs = logits.log_softmax(-1), other.log_softmax(-1)
    found = slopes.both_kls(own.exp(), theirs.exp(), theirs - own)
    own, theirs = logits.double().log_softmax(-1), other.double().log_softmax(-1)
    exact = (own.exp() * (own - theirs)).sum(-1), (theirs.exp() * (theirs - own)).sum(-1)
    for ours, truth in zip(found, exact, strict=True):
        assert (ours >= 0.0).all()
        torch.testing.assert_close(ours.double(), truth, rtol=5e-2, atol=0.0)
