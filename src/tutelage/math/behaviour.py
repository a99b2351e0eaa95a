"""Distributions to write with that are neither the student's nor the teacher's."""

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.math.divergences import reverse_kl
from tutelage.math.generators import LogProbs

BISECTIONS = 30
"""Halvings of [0, 1]: the exponent is found to one part in 10^9."""


def geometric(student: LogProbs, teacher: LogProbs, share: Float[Tensor, "*batch"]) -> LogProbs:
    """`pi_S^(1 - b) pi_T^b / Z` with one share `b` in [0, 1] per position; log-probabilities in nats.

    At a share of 0 and 1 the one side's own zeros stand; between them an entry that either rules out is ruled out.
    """
    b = share.unsqueeze(-1)
    mine, theirs = torch.where(b < 1.0, student, 0.0), torch.where(b > 0.0, teacher, 0.0)  # 0 * -inf is nan
    return ((1.0 - b) * mine + b * theirs).log_softmax(dim=-1)


def largest_share(student: LogProbs, teacher: LogProbs, *, radius: float) -> Float[Tensor, "*batch"]:
    """The largest `b` in [0, 1] for which the geometric blend `mu_b` has KL(mu_b || pi_S) <= radius, per position.

    `mu_b` minimises KL(mu || pi_T) among all mu in that ball around the student: the constraint's multiplier decides `b`, and
    KL(mu_b || pi_S) rises with `b`, so that halving the interval finds it. What is returned never lies outside of the ball.

    Args:
        student: Log-probabilities.
        teacher: Log-probabilities.
        radius: In nats, not negative. 0 gives 0; KL(pi_T || pi_S) and more give 1.

    Raises:
        ValueError: `radius` is negative or not a number.

    Reference: trust-region behaviour blending, arXiv:2605.31159.
    """
    if not radius >= 0.0:
        raise ValueError(f"A radius must be >= 0 nats, got {radius!r}.")
    low = torch.zeros_like(student[..., 0])
    if radius == 0.0:
        return low
    high = torch.ones_like(low)
    whole = reverse_kl(teacher, student) <= radius
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        inside = reverse_kl(geometric(student, teacher, middle), student) <= radius
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return torch.where(whole, torch.ones_like(low), low)


def within_ball(student: LogProbs, teacher: LogProbs, *, radius: float) -> LogProbs:
    """The distribution closest to the teacher, by KL(mu || pi_T), among those with KL(mu || pi_S) <= radius.

    Raises:
        ValueError: `radius` is negative or not a number.
    """
    return geometric(student, teacher, largest_share(student, teacher, radius=radius))
