"""What a step draws its action from: a token or bin out of a list, or a vector of independent Gaussians.

Both have the same five calls, and `divergence` is written on top of them, so that objectives need not know what a step is.
Where a divergence of two Gaussians has no closed form it is refused; nothing is approximated in silence.
"""

from dataclasses import dataclass
from math import inf, log, pi

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.math import divergences, generators
from tutelage.math.generators import Generator, LogProbs, Nats

Vectors = Float[Tensor, "*batch dim"]


@dataclass(frozen=True, slots=True, eq=False)
class Categorical:
    """A distribution over tokens, action bins, or the events of a support."""

    log_probs: LogProbs
    """Normalised, in nats."""

    def log_prob(self, action: Int[Tensor, "*batch"]) -> Nats:
        """Log-probability of one id per position; gradients flow."""
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def kl(self, other: "Categorical") -> Nats:
        """KL(self || other) in nats per position; gradients flow to both."""
        return divergences.reverse_kl(self.log_probs, other.log_probs)

    def entropy(self) -> Nats:
        """Shannon entropy in nats per position, in [0, log vocab]; gradients flow."""
        return divergences.entropy(self.log_probs)

    def sample(self, generator: torch.Generator) -> Int[Tensor, "*batch"]:
        """One id per position, drawn with the caller's randomness."""
        flat = self.log_probs.detach().flatten(end_dim=-2).exp()
        return torch.multinomial(flat, 1, generator=generator).reshape(self.log_probs.shape[:-1])

    def detach(self) -> "Categorical":
        """The same without a gradient."""
        return Categorical(self.log_probs.detach())


@dataclass(frozen=True, slots=True, eq=False)
class DiagonalGaussian:
    """Independent Gaussians, one per dimension of a continuous action or of a denoising transition."""

    mean: Vectors
    std: Vectors
    """Standard deviation, > 0; of a diffusion transition see `transition_std`."""

    def log_prob(self, action: Vectors) -> Nats:
        """Log-density of one vector per position; gradients flow."""
        score = (action - self.mean) / self.std
        return -(0.5 * score.square() + self.std.log() + 0.5 * log(2.0 * pi)).sum(dim=-1)

    def kl(self, other: "DiagonalGaussian") -> Nats:
        """KL(self || other) in nats per position; gradients flow to both. With one shared std, |difference|^2 / (2 std^2)."""
        log_ratio = self.std.log() - other.std.log()
        distance = (self.mean - other.mean) / other.std
        return (0.5 * (torch.expm1(2.0 * log_ratio) + distance.square()) - log_ratio).sum(dim=-1)

    def entropy(self) -> Nats:
        """Differential entropy in nats per position, of either sign; gradients flow."""
        return (self.std.log() + 0.5 * log(2.0 * pi) + 0.5).sum(dim=-1)

    def sample(self, generator: torch.Generator) -> Vectors:
        """One vector per position, drawn with the caller's randomness; no gradient flows."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean.detach() + self.std.detach() * noise

    def detach(self) -> "DiagonalGaussian":
        """The same without a gradient."""
        return DiagonalGaussian(self.mean.detach(), self.std.detach())


def divergence(generator: Generator, student: Categorical | DiagonalGaussian, teacher: Categorical | DiagonalGaussian) -> Nats:
    """An f-divergence of two step distributions of one kind, per position; gradients flow to both.

    Args:
        generator: The f, for instance `generators.generator("jeffreys")`.
        student: pi_S.
        teacher: pi_T.

    Raises:
        ValueError: The two are of different kinds, or are Gaussians for which this divergence has no closed form.
    """
    match student, teacher:
        case Categorical(), Categorical():
            return divergences.f_divergence(generator, student.log_probs, teacher.log_probs)
        case DiagonalGaussian(), DiagonalGaussian():
            return _of_gaussians(generator, student, teacher)
        case _:
            raise ValueError(
                f"A divergence compares two distributions of one kind, got {type(student).__name__} and "
                f"{type(teacher).__name__}."
            )


def transition_std(std_per_root_time: Float[Tensor, "*step"], time_step: Float[Tensor, "*step"]) -> Float[Tensor, "*step"]:
    """Standard deviation of one diffusion transition: `std_per_root_time sqrt(|time_step|)`.

    Noise adds up in variance, so a transition's KL divides by `2 std_per_root_time^2 |time_step|`. Leaving the time step out
    makes it wrong by that factor.
    """
    return std_per_root_time * time_step.abs().sqrt()


def _of_gaussians(generator: Generator, student: DiagonalGaussian, teacher: DiagonalGaussian) -> Nats:
    match generator:
        case generators.ReverseKL():
            return student.kl(teacher)
        case generators.ForwardKL():
            return teacher.kl(student)
        case generators.Jeffreys():
            return student.kl(teacher) + teacher.kl(student)
        case generators.Power(alpha=alpha, factor=factor):
            return factor * _power(alpha, student, teacher)
        case _:
            raise ValueError(
                f"{type(generator).__name__} of two Gaussians has no closed form. Both KLs, Jeffreys, the alpha family, "
                "Hellinger and chi-square have one."
            )


def _power(alpha: float, student: DiagonalGaussian, teacher: DiagonalGaussian) -> Nats:
    """`(integral pi_S^(1 - alpha) pi_T^alpha - 1) / (alpha (alpha - 1))`, infinite where the blended variance is negative."""
    base, other, share = (student, teacher, alpha) if alpha <= 0.5 else (teacher, student, 1.0 - alpha)
    if share == 0.0:
        return base.kl(other)
    log_ratio = base.std.log() - other.std.log()
    excess = share * torch.expm1(2.0 * log_ratio)  # the blended variance over the other's, less one
    exists = excess > -1.0
    excess = excess.masked_fill(~exists, 0.0)
    distance = (base.mean - other.mean) / other.std
    log_integral = (
        share * log_ratio - 0.5 * torch.log1p(excess) - 0.5 * share * (1.0 - share) * distance.square() / (1.0 + excess)
    )
    value = torch.expm1(log_integral.sum(dim=-1)) / (share * (share - 1.0))
    return value.masked_fill(~exists.all(dim=-1), inf)
