"""What responses of an earlier student are still worth."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Capability, Gather, StepBatch
from tutelage.weighting.base import Measured, RowStatistic
from tutelage.weighting.rollouts import rollout_means


@dataclass(frozen=True, kw_only=True, slots=True)
class Freshness:
    """`exp(-drift d - age a)` per rollout, clipped to [floor, 1], then divided by the mean over the term's tokens.

    `d` is the mean size of `log pi_S - log mu` over the rollout's tokens, and `a` how many optimiser steps ago it was written.
    A response of the present student has weight 1 before the division: there the two log-probabilities differ by rounding.

    Reference: f-OPD, arXiv:2605.17862.
    """

    kind: Literal["freshness"] = "freshness"
    drift: float = 1.0
    """Rate per nat of mean drift, at least 0."""
    age: float = 0.0
    """Rate per optimiser step, at least 0."""
    floor: float = 0.1
    """Least weight of a rollout that is not dropped, in [0, 1]."""
    drop: float = 0.0
    """Rollouts whose weight lies below this before it is clipped get none at all, in [0, 1]."""

    scope: ClassVar[Literal["step"]] = "step"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    statistics: ClassVar[frozenset[str]] = frozenset({"student_log_prob"})
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def __post_init__(self) -> None:
        if min(self.drift, self.age) < 0.0 or not 0.0 <= self.floor <= 1.0 or not 0.0 <= self.drop <= 1.0:
            raise ConfigError(
                f"Freshness needs drift and age >= 0, and floor and drop in [0, 1], got drift {self.drift!r}, age "
                f"{self.age!r}, floor {self.floor!r}, drop {self.drop!r}."
            )

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, step: int, gather: Gather
    ) -> Float[Tensor, " row"]:
        """One factor per row, the same within a rollout; its mean over the mask's rows that are not dropped is 1."""
        moved = (measured["student_log_prob"].double() - batch.behaviour_log_probs.double()).abs()
        drift, _ = rollout_means(moved, batch, mask & ~batch.behaviour_log_probs.isnan())
        ages = torch.tensor([step - rollout.policy_step for rollout in batch.rollouts], dtype=torch.float64).to(drift)
        raw = torch.where(ages > 0.0, torch.exp(-self.drift * drift - self.age * ages), 1.0)
        weight = torch.where(raw >= self.drop, raw.clamp(min=self.floor), 0.0)[batch.rollout]
        kept = gather(weight[mask & (raw >= self.drop)[batch.rollout]])
        return weight / kept.mean() if len(kept) and bool(kept.any()) else weight
