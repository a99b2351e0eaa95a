"""Losses on pairs of responses, turned into one advantage per token."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from tutelage.types import Author, Credit, Gather, StepBatch

Pairs = Sequence[tuple[int, int]]
"""Indices of the preferred and of the other rollout."""
PairLoss = Callable[[Float[Tensor, " pair"], Float[Tensor, " pair"]], Float[Tensor, " pair"]]


def pairs_by_reward(batch: StepBatch) -> Pairs:
    """Any two responses to one prompt of which one has the higher reward; those without a reward form no pair."""
    rewards = [verdict.reward for verdict in batch.verdicts]
    return [
        (i, j)
        for i, j in _within_prompts(batch)
        if (better := rewards[i]) is not None and (worse := rewards[j]) is not None and better > worse
    ]


def pairs_by_author(batch: StepBatch) -> Pairs:
    """Each response of a teacher or the data set against each of the student's to the same prompt."""
    ours = [bool((rollout.authors == Author.STUDENT).any()) for rollout in batch.rollouts]
    return [(i, j) for i, j in _within_prompts(batch) if ours[j] and not ours[i]]


def logistic(preferred: Float[Tensor, " pair"], other: Float[Tensor, " pair"], *, beta: float) -> Float[Tensor, " pair"]:
    """`-log sigmoid(beta (preferred - other))` in nats per pair, of sums or means of log-probabilities.

    With log-ratios to a reference in place of log-probabilities it is DPO, arXiv:2305.18290, equation 7.
    """
    return -logsigmoid(beta * (preferred - other))


def odds_ratio(preferred: Float[Tensor, " pair"], other: Float[Tensor, " pair"]) -> Float[Tensor, " pair"]:
    """`-log sigmoid(log odds(preferred) - log odds(other))` in nats per pair, of mean log-probabilities below zero.

    Reference: ORPO, arXiv:2403.07691, equation 7, without its supervised part, which is a term of its own.
    """
    return -logsigmoid(_log_odds(preferred) - _log_odds(other))


def credit_of_pairs(
    pairs: Pairs,
    batch: StepBatch,
    scores: Float[Tensor, " row"],
    mask: Bool[Tensor, " row"],
    loss: PairLoss,
    *,
    mean: bool,
    gather: Gather,
) -> Credit:
    """The mean of a loss over all pairs of the step, linearised at the present log-probabilities.

    Args:
        pairs: Of rollouts of this process.
        batch: The rows.
        scores: What adds up to a response's score: log-probabilities, or log-ratios to a reference.
        mask: Rows that take part.
        loss: Of the scores of both sides, per pair.
        mean: A score is the mean over its tokens instead of their sum.
        gather: Shows the other processes' numbers of pairs.

    Returns:
        The negated derivative of the mean loss with respect to each row's score, and shares that add up to the mean loss.
    """
    ones = mask.to(torch.float64)
    lengths = ones.new_zeros(len(batch.rollouts)).index_add_(0, batch.rollout, ones)
    score = torch.zeros_like(lengths).index_add_(0, batch.rollout, torch.where(mask, scores.detach().double(), 0.0))
    per_row = 1.0 / lengths.clamp(min=1.0) if mean else torch.ones_like(lengths)
    score = (score * per_row).requires_grad_()
    count = gather(ones.new_tensor([float(len(pairs))])).sum().clamp(min=1.0)
    preferred, other = (torch.tensor([pair[side] for pair in pairs], dtype=torch.long, device=mask.device) for side in (0, 1))
    with torch.enable_grad():
        losses = loss(score[preferred], score[other]) / count
        slope = torch.autograd.grad(losses.sum(), score)[0] if pairs else torch.zeros_like(lengths)
    halves = torch.zeros_like(lengths)
    for side in (preferred, other):
        halves.index_add_(0, side, 0.5 * losses.detach())
    return Credit(
        advantage=-(slope * per_row)[batch.rollout] * ones,
        value=(halves / lengths.clamp(min=1.0))[batch.rollout] * ones,
    )


def _within_prompts(batch: StepBatch) -> list[tuple[int, int]]:
    groups: dict[int, list[int]] = {}
    for index, rollout in enumerate(batch.rollouts):
        groups.setdefault(rollout.group, []).append(index)
    return [(i, j) for members in groups.values() for i, j in product(members, repeat=2) if i != j]


def _log_odds(log_prob: Float[Tensor, " pair"]) -> Float[Tensor, " pair"]:
    below = log_prob.clamp(max=-torch.finfo(log_prob.dtype).eps)  # a certain response has infinite odds
    return below - torch.log(-torch.expm1(below))
