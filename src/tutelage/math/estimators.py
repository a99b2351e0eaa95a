"""Estimators from sampled tokens. Each states its value and its gradient: a loss named after its value often has another one.

`log_ratio` is `log pi_T - log pi_S` of the sampled token throughout the package.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.math.divergences import LogProbs, Nats, reverse_kl
from tutelage.math.supports import renormalise, top_entries


def score_function(log_prob: Nats, advantage: Nats, *, log_ratio_to_behaviour: Nats | None = None) -> Nats:
    r"""Policy-gradient surrogate `-rho A log pi_S` of one sampled token per position.

    Value: no estimate of anything; do not read it. Gradient: `-rho A grad log pi_S`; `advantage` is detached. With
    `A = log pi_T - log pi_S` and tokens drawn from pi_S, the mean gradient is that of the reverse KL at the prefix.

    Args:
        log_prob: Student log-probability of the sampled token; gradients flow.
        advantage: What the token is worth, in nats.
        log_ratio_to_behaviour: `log pi_S - log mu`. Given, the surrogate is `-(pi_S / mu) A`, whose gradient is weighted by
            the importance ratio and therefore unbiased for tokens drawn from mu.

    Reference: U1 of the shared identities; the importance-sampling loss of Thinking Machines' OPD (2025-10).
    """
    advantage = advantage.detach()
    if log_ratio_to_behaviour is None:
        return -advantage * log_prob
    return -advantage * log_ratio_to_behaviour.exp()


def truncated_score_function(log_prob: Nats, behaviour: Nats, advantage: Nats, *, cap: float) -> Nats:
    """`-sg[min(rho, cap) A] log pi_S` with `rho = pi_S / mu`: truncated importance sampling.

    Value: a surrogate, not to be read. Gradient: `-min(rho, cap) A grad log pi_S`, unbiased for tokens drawn from mu where
    rho <= cap. At a cap of infinity the gradient is that of `score_function` with a ratio.

    Reference: Ionides 2008, "Truncated importance sampling".
    """
    rho = (log_prob - behaviour).detach().exp()
    return -rho.clamp(max=cap) * advantage.detach() * log_prob


def clipped_score_function(
    log_prob: Nats, behaviour: Nats, advantage: Nats, *, low: float, high: float, dual: float | None = None
) -> Nats:
    """PPO's `-min(rho A, clip(rho, 1 - low, 1 + high) A)` with `rho = pi_S / mu`.

    Value: a surrogate, not to be read. Gradient: `-rho A grad log pi_S`, and none where rho > 1 + high with A > 0 or
    rho < 1 - low with A < 0. At rho = 1 it is that of `score_function`.

    Args:
        log_prob: Student log-probability of the sampled token; gradients flow.
        behaviour: That of the policy which drew it.
        advantage: What the token is worth; detached.
        low: In [0, 1].
        high: At least 0.
        dual: Above 1; where A < 0 the surrogate is at most `-dual A`, and has no gradient beyond.

    Reference: PPO, arXiv:1707.06347, equation 7; dual clip, arXiv:1912.09729.
    """
    rho, advantage = (log_prob - behaviour).exp(), advantage.detach()
    surrogate = torch.maximum(-rho * advantage, -rho.clamp(1.0 - low, 1.0 + high) * advantage)
    if dual is None:
        return surrogate
    return torch.where(advantage < 0.0, torch.minimum(surrogate, -dual * advantage), surrogate)


def banded_score_function(log_prob: Nats, behaviour: Nats, advantage: Nats, *, low: float, high: float) -> Nats:
    """`-sg[rho A] log pi_S` where `low <= rho <= high`, zero elsewhere, with `rho = pi_S / mu`.

    Value: a surrogate, not to be read. Gradient: `-rho A grad log pi_S` inside the band, none outside. With a band of
    (0, infinity) it is that of `score_function` with a ratio.
    """
    rho = (log_prob - behaviour).detach().exp()
    return -torch.where((rho >= low) & (rho <= high), rho * advantage.detach(), 0.0) * log_prob


def k1(log_ratio: Nats) -> Nats:
    """`-log_ratio`. Value: unbiased for KL(pi_S || pi_T). Gradient, sampling held fixed: zero on average; never a loss."""
    return -log_ratio


def k2(log_ratio: Nats) -> Nats:
    """Half the squared log-ratio. Value: biased for KL(pi_S || pi_T). Gradient on-policy: exactly that of KL(pi_S || pi_T)."""
    return 0.5 * log_ratio.square()


def k3(log_ratio: Nats) -> Nats:
    """`exp(r) - r - 1 >= 0`. Value: unbiased for KL(pi_S || pi_T). Gradient on-policy: that of KL(pi_T || pi_S)."""
    return torch.expm1(log_ratio) - log_ratio


def kl_baseline(student: LogProbs, teacher: LogProbs, *, k: int = 0) -> Nats:
    """The reverse KL of each position as a control variate: the mean of `-log_ratio` under the student; detached.

    Args:
        student: Student log-probabilities.
        teacher: Teacher log-probabilities.
        k: Entries kept, the student's likeliest, both sides renormalised within; 0 keeps the whole vocabulary.

    Any value is unbiased, since it does not depend on the sampled token.

    Reference: vOPD, arXiv:2605.07865 (`kl_top_k` of its released code).
    """
    student, teacher = student.detach(), teacher.detach()
    if k:
        top = top_entries(student, k)
        student, teacher = renormalise(student.gather(-1, top)), renormalise(teacher.gather(-1, top))
    return reverse_kl(student, teacher)


def acceptance(log_ratio: Nats) -> Float[Tensor, "*batch"]:
    """min(pi_T / pi_S, 1) of the sampled token: the probability that speculative decoding keeps it; detached.

    Its mean under the student is `1 - TV(pi_S, pi_T)`.

    Reference: TrOPD, arXiv:2606.01249.
    """
    return log_ratio.detach().clamp(max=0.0).exp()
