"""Preferences between whole responses as a signal on their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.credit.preferences import credit_of_pairs, logistic, odds_ratio, pairs_by_author, pairs_by_reward
from tutelage.errors import ConfigError
from tutelage.objectives.linearise import Linearised, of_sampled
from tutelage.types import Capability, Credit, Gather, StepBatch, VerdictField
from tutelage.weighting.base import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """A loss on pairs of responses to one prompt, averaged over the pairs of the step. Its term reduces by `Sum`.

    Value and gradient are those of the loss at the weights before the step: both pass through the whole response's
    log-probability, which is measured first, so no graph spans two responses.
    """

    kind: Literal["preference"] = "preference"
    loss: Literal["dpo", "logistic", "odds_ratio"] = "dpo"
    """`dpo`: log-ratios to a reference, which is the term's teacher. `logistic`: log-probabilities. `odds_ratio`: ORPO's, of
    mean log-probabilities, without its supervised part."""
    pairs: Literal["reward", "author"] = "reward"
    """`reward`: any two of which one has the higher reward. `author`: the teacher's or data set's over the student's."""
    beta: float = 0.1
    """Factor on the difference of scores; without effect on `odds_ratio`."""
    length_normalised: bool = False
    """A response's score is the mean over its tokens instead of their sum; always so for `odds_ratio`."""

    def __post_init__(self) -> None:
        if self.beta <= 0.0:
            raise ConfigError(f"Preference needs beta > 0, got {self.beta!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """For DPO the reference's log-probabilities of the responses."""
        return frozenset[Capability]({"sampled"} if self.loss == "dpo" else ())

    @property
    def verdicts(self) -> frozenset[VerdictField]:
        """Rewards, where pairs are made by them."""
        return frozenset[VerdictField]({"reward"} if self.pairs == "reward" else ())

    @property
    def scope(self) -> Literal["step"]:
        """Pairs span the step."""
        return "step"

    @property
    def statistics(self) -> frozenset[str]:
        """Log-probabilities of the responses."""
        return frozenset({"student_log_prob", "teacher_log_prob"} if self.loss == "dpo" else {"student_log_prob"})

    def credit(
        self,
        batch: StepBatch,
        measured: Mapping[str, Float[Tensor, " row"]],
        mask: Bool[Tensor, " row"],
        *,
        gather: Gather,
    ) -> Credit:
        """The loss, linearised."""
        scores = measured["student_log_prob"].double()
        if self.loss == "dpo":
            scores = scores - measured["teacher_log_prob"].double()
        return credit_of_pairs(
            (pairs_by_reward if self.pairs == "reward" else pairs_by_author)(batch),
            batch,
            scores,
            mask,
            odds_ratio if self.loss == "odds_ratio" else partial(logistic, beta=self.beta),
            mean=self.length_normalised or self.loss == "odds_ratio",
            gather=gather,
        )

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The row's share of the loss."""
        return self._linear(rows.sampled, rows)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values, and slopes at the sampled tokens only."""
        return of_sampled(lambda sampled: self._linear(sampled, rows), rows)

    def _linear(self, sampled: Float[Tensor, " row"], rows: Rows) -> Float[Tensor, " row"]:
        credit = rows.credited
        assert credit.value is not None
        return credit.value.to(sampled.dtype) - credit.advantage.to(sampled.dtype) * (sampled - sampled.detach())
