"""Advantages from a verifier's rewards, relative to the other responses to the same prompt."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, pstdev, stdev
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Capability, Gather, StepBatch, VerdictField


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRelative:
    """`(R - baseline) / scale` of the whole response, the same for each of its tokens.

    A response whose verdict has no reward gets none and does not enter the group's mean. A group of one, or with equal
    rewards, gives zero. All responses to a prompt must lie on one process, which the loop sees to.

    Reference: GRPO, arXiv:2402.03300, equation 3; without `scale` Dr. GRPO, arXiv:2503.20783; with `baseline` "others"
    and no scale RLOO, arXiv:2402.14740, which alone of them is unbiased.
    """

    kind: Literal["group_relative"] = "group_relative"
    baseline: Literal["mean", "others"] = "mean"
    """`mean` of all responses to the prompt, or of all `others`."""
    scale: Literal["deviation", "none"] = "deviation"
    """`deviation`: the group's standard deviation. It raises the weight of prompts that are nearly solved or unsolved."""
    sample_deviation: bool = True
    """Divide the squares by n - 1 rather than n, as public code does."""
    epsilon: float = 1e-4
    """Added to the deviation."""

    scope: ClassVar[Literal["step"]] = "step"
    statistics: ClassVar[frozenset[str]] = frozenset()
    verdicts: ClassVar[frozenset[VerdictField]] = frozenset({"reward"})

    def __post_init__(self) -> None:
        if self.epsilon < 0.0:
            raise ConfigError(f"GroupRelative needs epsilon >= 0, got {self.epsilon!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing of the teacher; a verifier with rewards."""
        return frozenset()

    def __call__(
        self, batch: StepBatch, measured: Mapping[str, Float[Tensor, " row"]], mask: Bool[Tensor, " row"], *, gather: Gather
    ) -> Float[Tensor, " row"]:
        """One advantage per row."""
        groups: dict[int, dict[int, float]] = defaultdict(dict)
        for index, (rollout, verdict) in enumerate(zip(batch.rollouts, batch.verdicts, strict=True)):
            if verdict.reward is not None:
                groups[rollout.group][index] = verdict.reward
        found = torch.zeros(len(batch.rollouts), dtype=torch.float64)
        for rewards in groups.values():
            for index, reward in rewards.items():
                found[index] = self._advantage(reward, list(rewards.values()))
        return found.to(batch.token.device)[batch.rollout]

    def _advantage(self, reward: float, group: list[float]) -> float:
        if len(group) < 2:
            return 0.0
        centred = reward - fmean(group)
        if self.baseline == "others":
            centred *= len(group) / (len(group) - 1)  # R - mean of the others
        if self.scale == "none":
            return centred
        return centred / ((stdev(group) if self.sample_deviation else pstdev(group)) + self.epsilon)
