"""Step distributions against torch's own, and Gaussian divergences against numerical integration."""

from math import inf

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal, kl_divergence

from tutelage.math.distributions import Categorical, DiagonalGaussian, divergence, transition_std
from tutelage.math.divergences import f_divergence
from tutelage.math.generators import GENERATORS, generator

WITH_CLOSED_FORM = {
    "reverse_kl": {},
    "forward_kl": {},
    "jeffreys": {},
    "hellinger": {},
    "chi_square_forward": {},
    "chi_square_reverse": {},
    "alpha": {"alpha": 0.3},
}


def gaussians(*shape: int, seed: int = 0) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    """Two near enough that every chi-square exists."""
    drawn = torch.Generator().manual_seed(seed)

    def one() -> DiagonalGaussian:
        mean = torch.randn(*shape, generator=drawn, dtype=torch.float64)
        return DiagonalGaussian(mean, 0.9 + 0.2 * torch.rand(*shape, generator=drawn, dtype=torch.float64))

    return one(), one()


def as_torch(given: DiagonalGaussian) -> Independent:
    """The same in torch."""
    return Independent(Normal(given.mean, given.std), 1)


def by_integration(name: str, settings: dict[str, float], student: DiagonalGaussian, teacher: DiagonalGaussian) -> Tensor:
    """The definition, `integral pi_S f(pi_T / pi_S)`, of one dimension by the trapezoidal rule."""
    points = torch.linspace(-30.0, 30.0, 20_001, dtype=torch.float64).unsqueeze(-1)
    p, q = (Normal(x.mean.squeeze(-1), x.std.squeeze(-1)).log_prob(points) for x in (student, teacher))
    return torch.trapezoid(generator(name, **settings).entries(p, q), points, dim=0)


@pytest.mark.parametrize(("name", "settings"), WITH_CLOSED_FORM.items())
def test_gaussian_forms_agree_with_numerical_integration(name, settings):
    student, teacher = gaussians(5, 1)
    found = divergence(generator(name, **settings), student, teacher)
    torch.testing.assert_close(found, by_integration(name, settings, student, teacher), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("alpha", [-0.8, -1e-7, 0.0, 1e-7, 0.4, 0.6, 1.0 - 1e-7, 1.0, 1.7])
def test_the_gaussian_alpha_family_has_no_jump_at_its_limits(alpha):
    student, teacher = gaussians(5, 1, seed=3)
    found = divergence(generator("alpha", alpha=alpha), student, teacher)
    torch.testing.assert_close(found, by_integration("alpha", {"alpha": alpha}, student, teacher), rtol=1e-7, atol=1e-10)


def test_dimensions_multiply_in_the_integral_and_add_in_the_kls():
    student, teacher = gaussians(4, 2)
    grid = torch.linspace(-12.0, 12.0, 1_201, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid).unsqueeze(1)
    p, q = (as_torch(x).log_prob(points) for x in (student, teacher))
    for name in ("reverse_kl", "hellinger"):
        entries = generator(name).entries(p, q).reshape(1_201, 1_201, 4)
        expected = torch.trapezoid(torch.trapezoid(entries, grid, dim=0), grid, dim=0)
        torch.testing.assert_close(divergence(generator(name), student, teacher), expected, rtol=1e-8, atol=1e-10)


def test_kl_entropy_and_log_density_are_those_of_torch():
    student, teacher = gaussians(3, 4)
    torch.testing.assert_close(student.kl(teacher), kl_divergence(as_torch(student), as_torch(teacher)))
    torch.testing.assert_close(student.entropy(), as_torch(student).entropy())
    torch.testing.assert_close(student.log_prob(teacher.mean), as_torch(student).log_prob(teacher.mean))
    own, theirs = (torch.randn(3, 6, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    action = torch.tensor([0, 5, 2])
    torch.testing.assert_close(
        Categorical(own).kl(Categorical(theirs)), kl_divergence(TorchCategorical(logits=own), TorchCategorical(logits=theirs))
    )
    torch.testing.assert_close(Categorical(own).entropy(), TorchCategorical(logits=own).entropy())
    torch.testing.assert_close(Categorical(own).log_prob(action), TorchCategorical(logits=own).log_prob(action))


def test_with_one_shared_deviation_the_kl_is_the_scaled_distance_of_the_means():
    student, teacher = gaussians(3, 4)
    both = torch.full_like(student.std, 0.3)
    expected = (student.mean - teacher.mean).square().sum(-1) / (2.0 * 0.3**2)
    torch.testing.assert_close(DiagonalGaussian(student.mean, both).kl(DiagonalGaussian(teacher.mean, both)), expected)


def test_a_blended_variance_that_is_not_positive_makes_alpha_and_chi_square_infinite_and_never_nan():
    zero = torch.zeros(1, 2, dtype=torch.float64)
    narrow, wide = DiagonalGaussian(zero, zero + 0.5), DiagonalGaussian(zero, zero + 1.0)
    assert divergence(generator("chi_square_forward"), narrow, wide).item() == inf
    assert divergence(generator("chi_square_reverse"), wide, narrow).item() == inf
    assert 0.0 < divergence(generator("chi_square_forward"), wide, narrow).item() < inf
    assert divergence(generator("alpha", alpha=3.0), narrow, wide).item() == inf
    assert divergence(generator("hellinger"), narrow, wide).item() < 1.0


@pytest.mark.parametrize("name", sorted(set(GENERATORS) - set(WITH_CLOSED_FORM)))
def test_what_has_no_closed_form_is_refused_and_not_approximated(name):
    student, teacher = gaussians(2, 3)
    with pytest.raises(ValueError, match="no closed form"):
        divergence(generator(name), student, teacher)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_categoricals_have_every_divergence(name):
    own, theirs = (torch.randn(3, 6, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    made = generator(name, **WITH_CLOSED_FORM.get(name, {}))
    torch.testing.assert_close(divergence(made, Categorical(own), Categorical(theirs)), f_divergence(made, own, theirs))


def test_two_kinds_of_distribution_cannot_be_compared():
    student, _ = gaussians(2, 3)
    with pytest.raises(ValueError, match="of one kind, got DiagonalGaussian and Categorical"):
        divergence(generator("reverse_kl"), student, Categorical(torch.zeros(2, 1)))


@pytest.mark.parametrize("name", ["reverse_kl", "jeffreys", "hellinger"])
def test_gradients_reach_means_and_deviations_of_both(name):
    student, teacher = gaussians(2, 3)
    leaves = [x.requires_grad_() for x in (student.mean, student.std, teacher.mean, teacher.std)]
    made = generator(name)
    assert torch.autograd.gradcheck(lambda a, b, c, d: divergence(made, DiagonalGaussian(a, b), DiagonalGaussian(c, d)), leaves)
    assert not student.detach().mean.requires_grad
    assert not Categorical(torch.zeros(2, 3, requires_grad=True).log_softmax(-1)).detach().log_probs.requires_grad


def test_samples_have_the_distributions_moments_and_repeat_with_their_generator():
    student = DiagonalGaussian(torch.tensor([[1.0, -2.0]]).expand(40_000, 2), torch.tensor([[0.5, 2.0]]).expand(40_000, 2))
    drawn = student.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), torch.tensor([1.0, -2.0]), atol=0.05, rtol=0.0)
    torch.testing.assert_close(drawn.std(0), torch.tensor([0.5, 2.0]), atol=0.05, rtol=0.0)
    torch.testing.assert_close(drawn, student.sample(torch.Generator().manual_seed(0)), rtol=0.0, atol=0.0)
    chances = torch.tensor([0.1, 0.6, 0.3])
    ids = Categorical(chances.log().expand(100, 400, 3)).sample(torch.Generator().manual_seed(0))
    assert ids.shape == (100, 400)
    torch.testing.assert_close(ids.flatten().bincount() / ids.numel(), chances, atol=0.01, rtol=0.0)


def test_the_noise_of_two_half_steps_is_that_of_one():
    per_root_time, step = torch.tensor(0.7), torch.tensor(-0.04)
    halves = 2.0 * transition_std(per_root_time, step / 2.0).square()
    torch.testing.assert_close(halves, transition_std(per_root_time, step).square())
    torch.testing.assert_close(transition_std(per_root_time, step), torch.tensor(0.7 * 0.2))
