"""Compositions of distributions against explicit probabilities and the identities that they are made for."""

from math import inf

import pytest
import torch
from torch import Tensor

from tutelage.math import compositions
from tutelage.math.divergences import forward_kl, reverse_kl


def tables(count: int, *shape: int, seed: int = 0) -> list[Tensor]:
    """Random log-probabilities."""
    drawn = torch.Generator().manual_seed(seed)
    return [(2.0 * torch.randn(*shape, generator=drawn, dtype=torch.float64)).log_softmax(-1) for _ in range(count)]


def test_every_composition_is_its_formula_on_probabilities():
    first, second, third = tables(3, 4, 6)
    a, b, c = first.exp(), second.exp(), third.exp()

    def normalised(table: Tensor) -> Tensor:
        return (table / table.sum(-1, keepdim=True)).log()

    for found, expected in (
        (compositions.product((first, second), (1.0, 3.0)), normalised(a**0.25 * b**0.75)),
        (compositions.mixture((first, second), (1.0, 3.0)), (0.25 * a + 0.75 * b).log()),
        (compositions.steering(first, second, third, scale=1.5), normalised(a * (b / c) ** 1.5)),
        (compositions.trust_region(first, second, share=0.3), normalised(a**0.7 * b**0.3)),
        (compositions.interpolation(first, second, share=0.3), (0.7 * a + 0.3 * b).log()),
        (compositions.at_temperature(first, 2.0), normalised(a.sqrt())),
    ):
        torch.testing.assert_close(found, expected)


def test_several_reverse_kls_are_one_to_the_product_less_its_log_normaliser():
    student, first, second = tables(3, 5, 7)
    weights = (0.6, 1.4)
    apart = weights[0] * reverse_kl(student, first) + weights[1] * reverse_kl(student, second)
    log_z = (0.3 * first + 0.7 * second).logsumexp(-1)
    together = sum(weights) * (reverse_kl(student, compositions.product((first, second), weights)) - log_z)
    torch.testing.assert_close(apart, together)
    assert (log_z < 0.0).all()


@pytest.mark.parametrize(("compose", "divergence"), [(compositions.product, reverse_kl), (compositions.mixture, forward_kl)])
def test_a_product_minimises_reverse_kls_over_contexts_and_a_mixture_forward_kls(compose, divergence):
    contexts, weights = tables(3, 6), (0.2, 0.3, 0.5)
    logits = compose(contexts, weights).clone().requires_grad_()
    student = logits.log_softmax(-1)
    value = sum(weight * divergence(student, context) for weight, context in zip(weights, contexts, strict=True))
    gradient = torch.autograd.grad(value, logits)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-14, rtol=0.0)


def test_a_trust_region_blend_is_the_closest_point_to_both_in_reverse_kl():
    student, teacher = tables(2, 6)
    share = 0.35
    blend = compositions.trust_region(student, teacher, share=share)

    def distance(point: Tensor) -> Tensor:
        return (1.0 - share) * reverse_kl(point, student) + share * reverse_kl(point, teacher)

    best = distance(blend)
    for other in tables(50, 6, seed=1):
        nearby = (0.9 * blend + 0.1 * other).log_softmax(-1)
        assert distance(nearby) > best
    torch.testing.assert_close(compositions.trust_region(student, teacher, share=0.0), student)
    torch.testing.assert_close(compositions.trust_region(student, teacher, share=1.0), teacher)


def test_steering_from_the_base_itself_is_the_geometric_extrapolation():
    base, positive = tables(2, 6)
    torch.testing.assert_close(compositions.steering(base, positive, base, scale=1.0), positive)
    torch.testing.assert_close(compositions.steering(base, positive, base, scale=0.0), base)
    torch.testing.assert_close(
        compositions.steering(base, positive, base, scale=0.4), compositions.product((base, positive), (0.6, 0.4))
    )


def test_ruled_out_entries_stay_defined_and_a_part_without_weight_rules_nothing_out():
    barred = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    other = torch.tensor([0.2, 0.0, 0.8], dtype=torch.float64).log()
    assert compositions.product((barred, other), (1.0, 1.0)).tolist() == [0.0, -inf, -inf]
    torch.testing.assert_close(compositions.product((barred, other), (1.0, 0.0)), barred)
    torch.testing.assert_close(compositions.mixture((barred, other), (1.0, 0.0)), barred)
    both = torch.stack([barred, barred]).requires_grad_()
    mixed = compositions.mixture((both, both), (1.0, 1.0))
    torch.testing.assert_close(mixed, torch.stack([barred, barred]))
    assert torch.autograd.grad(mixed.exp().sum(), both)[0].isfinite().all()
    steered = compositions.steering(barred, barred, other, scale=2.0)  # other rules out entry 1, barred rules out entry 2
    torch.testing.assert_close(steered.exp(), torch.tensor([0.5 * 2.5**2, 0.5, 0.0]).double() / (0.5 * 2.5**2 + 0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: compositions.product((x, x), (1.0,)), "2 distributions need as many weights"),
        (lambda x: compositions.mixture((x, x), (1.0, -1.0)), "none negative"),
        (lambda x: compositions.mixture((x, x), (0.0, 0.0)), "not all zero"),
        (lambda x: compositions.trust_region(x, x, share=1.5), r"in \[0, 1\], got 1.5"),
        (lambda x: compositions.interpolation(x, x, share=-0.1), r"in \[0, 1\], got -0.1"),
        (lambda x: compositions.steering(x, x, x, scale=-1.0), "scale >= 0, got -1.0"),
        (lambda x: compositions.at_temperature(x, 0.0), "temperature must be > 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(tables(1, 3)[0])
