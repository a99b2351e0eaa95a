"""Weights that say how much of a term's attention a token or a rollout gets, and that leave the whole as it was."""

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Capability, Gather, StepBatch
from tutelage.weighting.base import Measured, RowStatistic
from tutelage.weighting.rollouts import rollout_means

PerRow = Float[Tensor, " row"]
Mask = Bool[Tensor, " row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EntropyContrast:
    """`(1 + a (1 - H_T / max H_T)) (1 + b H_S / max H_S)`, divided by its mean over the term's tokens.

    High where the teacher is sure and the student is not. Maxima and mean are those of the step on all processes.

    Reference: FiRe-OPD, arXiv:2606.02684.
    """

    kind: Literal["entropy_contrast"] = "entropy_contrast"
    teacher: float = 1.0
    """a, at least 0: what a sure teacher adds."""
    student: float = 1.0
    """b, at least 0: what an unsure student adds."""

    scope: ClassVar[Literal["step"]] = "step"
    needs: ClassVar[frozenset[Capability]] = frozenset({"full"})
    statistics: ClassVar[frozenset[str]] = frozenset({"student_entropy_nats", "teacher_entropy_nats"})
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def __post_init__(self) -> None:
        if min(self.teacher, self.student) < 0.0:
            raise ConfigError(f"EntropyContrast needs teacher and student >= 0, got {self.teacher!r} and {self.student!r}.")

    def __call__(self, batch: StepBatch, measured: Measured, mask: Mask, *, step: int, gather: Gather) -> PerRow:
        """One factor per row; their mean over the term's tokens is 1."""
        own, theirs = (measured[f"{side}_entropy_nats"].double() for side in ("student", "teacher"))
        all_own, all_theirs = gather(own[mask]), gather(theirs[mask])
        if not len(all_own):
            return torch.ones_like(own)
        most = (_largest(all_own), _largest(all_theirs))
        return self._raw(own, theirs, most) / self._raw(all_own, all_theirs, most).mean()

    def _raw(self, own: PerRow, theirs: PerRow, most: tuple[Tensor, Tensor]) -> PerRow:
        return (1.0 + self.teacher * (1.0 - theirs / most[1])) * (1.0 + self.student * own / most[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class PerplexityShare:
    """The softmax over the term's rollouts of a prompt of how likely each is per token, times their number.

    A rollout alone has weight 1, and the weights of a prompt's rollouts add up to their number. All responses to a prompt lie
    on one process, which the loop sees to.

    Reference: SCOPE, arXiv:2604.10688.
    """

    kind: Literal["perplexity_share"] = "perplexity_share"
    of: Literal["teacher", "student"] = "teacher"
    """Whose log-probability."""
    prefers: Literal["likely", "unlikely"] = "likely"
    """Which rollouts get more."""
    temperature: float = 1.0
    """Of the softmax over mean log-probabilities in nats, above 0; large values weigh all rollouts alike."""

    scope: ClassVar[Literal["step"]] = "step"
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def __post_init__(self) -> None:
        if self.temperature <= 0.0:
            raise ConfigError(f"PerplexityShare needs temperature > 0, got {self.temperature!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probability of the sampled token, if it is the teacher's."""
        return frozenset({"sampled"} if self.of == "teacher" else ())

    @property
    def statistics(self) -> frozenset[str]:
        """The log-probabilities."""
        return frozenset({f"{self.of}_log_prob"})

    def __call__(self, batch: StepBatch, measured: Measured, mask: Mask, *, step: int, gather: Gather) -> PerRow:
        """One factor per row, the same for all tokens of a rollout."""
        means, present = rollout_means(measured[f"{self.of}_log_prob"], batch, mask)
        weights = torch.ones_like(means)
        groups: dict[int, list[int]] = defaultdict(list)
        for index, rollout in enumerate(batch.rollouts):
            if present[index]:
                groups[rollout.group].append(index)
        sign = 1.0 if self.prefers == "likely" else -1.0
        for members in groups.values():
            weights[members] = len(members) * torch.softmax(sign * means[members] / self.temperature, dim=0)
        return weights[batch.rollout]


def _largest(entropies: Float[Tensor, " all"]) -> Float[Tensor, ""]:
    return entropies.max().clamp(min=torch.finfo(torch.float64).tiny)
