"""Every f: by its textbook formula, its derivative, and the advantage that makes a score function unbiased."""

from collections.abc import Callable
from math import inf, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutelage.math import divergences, slopes
from tutelage.math.generators import GENERATORS, Generator, Power, generator

F: dict[str, tuple[Generator, Callable[[Tensor], Tensor]]] = {
    "reverse_kl": (generator("reverse_kl"), lambda u: -u.log()),
    "forward_kl": (generator("forward_kl"), lambda u: u * u.log()),
    "jensen_shannon": (
        generator("jensen_shannon", beta=0.3),
        lambda u: 0.3 * u * (u / (0.3 * u + 0.7)).log() - 0.7 * (0.3 * u + 0.7).log(),
    ),
    "skew_forward_kl": (generator("skew_forward_kl", alpha=0.2), lambda u: u * (u / (0.2 * u + 0.8)).log()),
    "skew_reverse_kl": (generator("skew_reverse_kl", alpha=0.2), lambda u: -(0.8 * u + 0.2).log()),
    "alpha": (generator("alpha", alpha=0.3), lambda u: (u**0.3 - 0.3 * u - 0.7) / (0.3 * -0.7)),
    "alpha above one": (generator("alpha", alpha=1.7), lambda u: (u**1.7 - 1.7 * u + 0.7) / (1.7 * 0.7)),
    "alpha 0": (generator("alpha", alpha=0.0), lambda u: -u.log() + u - 1.0),
    "alpha 1": (generator("alpha", alpha=1.0), lambda u: u * u.log() - u + 1.0),
    "jeffreys": (generator("jeffreys"), lambda u: (u - 1.0) * u.log()),
    "total_variation": (generator("total_variation"), lambda u: 0.5 * (u - 1.0).abs()),
    "hellinger": (generator("hellinger"), lambda u: 0.5 * (u.sqrt() - 1.0) ** 2),
    "chi_square_forward": (generator("chi_square_forward"), lambda u: (u - 1.0) ** 2),
    "chi_square_reverse": (generator("chi_square_reverse"), lambda u: (u - 1.0) ** 2 / u),
}
every_f = pytest.mark.parametrize(("made", "f"), F.values(), ids=F.keys())
BOUNDED = ("jensen_shannon", "skew_forward_kl", "skew_reverse_kl", "alpha", "total_variation", "hellinger")


def pair(vocab: int = 7, seed: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """Student logits that require a gradient, and a teacher's log-probabilities."""
    drawn = torch.Generator().manual_seed(seed)
    student, teacher = (spread * torch.randn(vocab, generator=drawn, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher.log_softmax(-1)


def test_every_name_has_a_formula_here():
    assert {key for key in F if not key.startswith("alpha ")} == set(GENERATORS)


@every_f
def test_value_derivative_and_reward_are_those_of_the_formula(made, f):
    log_ratio = torch.tensor([-5.0, -1.0, -1e-3, 1e-3, 0.7, 4.0], dtype=torch.float64)
    u = log_ratio.exp().requires_grad_()
    slope = torch.autograd.grad(f(u).sum(), u)[0]
    torch.testing.assert_close(made.value(log_ratio), f(u).detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(made.derivative(log_ratio), slope, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(made.corrected_reward(log_ratio), (-f(u) + u * slope).detach(), rtol=1e-9, atol=1e-12)


@every_f
def test_a_divergence_is_the_mean_of_f_under_the_student(made, f):
    logits, teacher = pair()
    p, q = logits.detach().softmax(-1), teacher.exp()
    torch.testing.assert_close(divergences.f_divergence(made, p.log(), teacher), (p * f(q / p)).sum())


@every_f
def test_a_score_function_with_the_corrected_reward_has_the_gradient_of_the_divergence(made, f):
    logits, teacher = pair()
    student = logits.log_softmax(-1)
    p = student.detach().exp()
    exact = torch.autograd.grad((student.exp() * f(teacher.exp() / student.exp())).sum(), logits, retain_graph=True)[0]
    log_ratio = teacher - student.detach()
    corrected = torch.autograd.grad(-(p * made.corrected_reward(log_ratio) * student).sum(), logits, retain_graph=True)[0]
    torch.testing.assert_close(corrected, exact)
    naive = torch.autograd.grad((p * made.value(log_ratio) * student).sum(), logits)[0]
    is_reverse_kl = made == generator("reverse_kl")
    assert torch.allclose(naive, exact) == is_reverse_kl


@every_f
def test_gradients_reach_both_sides_and_agree_with_finite_differences(made, f):
    logits, teacher = pair()
    theirs = teacher.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, y: divergences.f_divergence(made, x.log_softmax(-1), y.log_softmax(-1)), (logits, theirs)
    )


@every_f
def test_exchanging_the_sides_is_the_adjoint(made, f):
    logits, teacher = pair()
    student = logits.detach().log_softmax(-1)
    torch.testing.assert_close(
        divergences.f_divergence(made.adjoint, teacher, student), divergences.f_divergence(made, student, teacher)
    )


@every_f
def test_entries_are_the_sum_of_their_slopes_on_both_sides(made, f):
    logits, teacher = pair(spread=4.0)
    student = logits.detach().log_softmax(-1)
    both = made.slope(student, teacher) + made.adjoint.slope(teacher, student)  # Euler: homogeneous of degree one
    torch.testing.assert_close(both, made.entries(student, teacher))


@every_f
@given(
    vocab=st.integers(2, 12),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 1_000),
    spread=st.sampled_from([0.01, 1.0, 5.0]),
)
def test_merging_events_never_raises_it(made, f, vocab, share, seed, spread):
    logits, teacher = pair(vocab, seed, spread)
    student = logits.detach().log_softmax(-1)
    kept = max(1, round(share * vocab))

    def merged(log_probs: Tensor) -> Tensor:
        return torch.cat([log_probs[:kept], log_probs[kept:].logsumexp(-1, keepdim=True)]) if kept < vocab else log_probs

    whole = divergences.f_divergence(made, student, teacher)
    part = divergences.f_divergence(made, merged(student), merged(teacher))
    assert part <= whole * (1 + 1e-9) + 1e-12
    assert part >= -1e-12


@every_f
@given(vocab=st.integers(1, 20), seed=st.integers(0, 1_000), spread=st.sampled_from([1e-3, 1.0, 10.0]))
def test_the_slope_is_the_gradient_of_the_definition(made, f, vocab, seed, spread):
    logits, teacher = pair(vocab, seed, spread)
    student = logits.log_softmax(-1)
    value, slope = slopes.f_divergence(made, student.detach(), teacher)
    expected = (student.exp() * f((teacher - student).exp())).sum()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-9, atol=1e-12)
    gradient = torch.autograd.grad(expected, logits)[0]
    scale = slope.abs().max().item()
    torch.testing.assert_close(
        slopes.logit_gradient(slope, student.detach().exp()), gradient, rtol=1e-7, atol=1e-13 + 1e-12 * scale
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", GENERATORS)
def test_nothing_is_nan_however_extreme_the_log_ratio(name, dtype):
    made = generator(name, alpha=0.4) if name == "alpha" else generator(name)
    sides = torch.tensor([0.0, -1e-30, -1.0, -80.0, -800.0, -1e4, -inf], dtype=dtype)
    student, teacher = (x.reshape(-1) for x in torch.meshgrid(sides, sides, indexing="ij"))
    for found in (made.entries(student, teacher), made.slope(student, teacher)):
        assert not found.isnan().any()
        if name in BOUNDED:
            assert found.isfinite().all()
    log_ratio = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype)
    for found in (made.value(log_ratio), made.derivative(log_ratio), made.corrected_reward(log_ratio)):
        assert not found.isnan().any()


@pytest.mark.parametrize("name", GENERATORS)
def test_a_small_divergence_keeps_its_digits_in_float32(name):
    made = generator(name, alpha=0.4) if name == "alpha" else generator(name)
    drawn = torch.Generator().manual_seed(0)
    logits = 4.0 * torch.randn(32, 2_000, generator=drawn, dtype=torch.float64)
    nearby = logits + 1e-2 * torch.randn(32, 2_000, generator=drawn, dtype=torch.float64)
    student, teacher = logits.log_softmax(-1), nearby.log_softmax(-1)
    exact = divergences.f_divergence(made, student, teacher)
    single = divergences.f_divergence(made, student.float(), teacher.float())
    assert (single - exact).abs().max() < 1e-6


CERTAIN, FAIR = torch.tensor([0.0, -inf], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("name", "student_certain", "teacher_certain"),
    [
        ("reverse_kl", log(2.0), inf),
        ("forward_kl", inf, log(2.0)),
        ("jeffreys", inf, inf),
        ("total_variation", 0.5, 0.5),
        ("hellinger", 1.0 - 0.5**0.5, 1.0 - 0.5**0.5),
        ("chi_square_forward", inf, 1.0),
        ("chi_square_reverse", 1.0, inf),
        ("skew_forward_kl", 0.5 * log(0.5 / 0.95) + 0.5 * log(10.0), log(1.0 / 0.55)),
        ("skew_reverse_kl", log(1.0 / 0.55), 0.5 * log(0.5 / 0.95) + 0.5 * log(10.0)),
    ],
)
def test_one_side_without_mass_has_the_limit_of_the_textbook(name, student_certain, teacher_certain):
    made = generator(name)
    assert divergences.f_divergence(made, CERTAIN, FAIR).item() == pytest.approx(student_certain)
    assert divergences.f_divergence(made, FAIR, CERTAIN).item() == pytest.approx(teacher_certain)


def test_the_alpha_family_holds_the_others_at_its_special_points():
    logits, teacher = pair()
    student = logits.detach().log_softmax(-1)

    def at(alpha: float) -> Tensor:
        return divergences.alpha_divergence(student, teacher, alpha=alpha)

    for alpha, expected in (
        (0.0, divergences.reverse_kl(student, teacher)),
        (1.0, divergences.forward_kl(student, teacher)),
        (0.5, 4.0 * divergences.squared_hellinger(student, teacher)),
        (2.0, 0.5 * divergences.chi_square_forward(student, teacher)),
        (-1.0, 0.5 * divergences.chi_square_reverse(student, teacher)),
    ):
        torch.testing.assert_close(at(alpha), expected)
        for near in (alpha - 1e-9, alpha + 1e-9):  # no jump and no division by a small number
            torch.testing.assert_close(at(near), expected, rtol=1e-6, atol=0.0)


def test_a_skew_kl_tends_to_the_plain_one_and_never_exceeds_minus_log_alpha():
    logits, teacher = pair()
    student = logits.detach().log_softmax(-1)
    for skew, plain in (
        (divergences.skew_forward_kl, divergences.forward_kl),
        (divergences.skew_reverse_kl, divergences.reverse_kl),
    ):
        torch.testing.assert_close(skew(student, teacher, alpha=1e-9), plain(student, teacher), rtol=1e-6, atol=0.0)
        disjoint = torch.tensor([0.0, -inf]).double(), torch.tensor([-inf, 0.0]).double()
        assert skew(*disjoint, alpha=0.1).item() == pytest.approx(-log(0.1))
    torch.testing.assert_close(divergences.jeffreys(student, teacher), divergences.jeffreys(teacher, student))


def test_a_capped_entry_has_no_gradient_even_where_its_slope_is_infinite():
    student = torch.tensor([0.0, -inf], dtype=torch.float64, requires_grad=True)
    value = divergences.f_divergence(Power(alpha=2.0), student, FAIR, entry_cap=0.05)
    assert value.item() == pytest.approx(0.05 + 0.05)
    assert torch.autograd.grad(value, student)[0].abs().max() == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: generator("kl"), "no divergence called 'kl'"),
        (lambda: generator("skew_forward_kl", alpha=1.0), "0 < alpha < 1, got 1.0"),
        (lambda: generator("skew_reverse_kl", alpha=0.0), "0 < alpha < 1, got 0.0"),
        (lambda: generator("alpha", alpha=inf), "finite number, got inf"),
    ],
)
def test_unknown_names_and_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
