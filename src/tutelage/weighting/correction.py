"""Weights that correct for who wrote the tokens, and for how sure the teacher is."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Capability, Gather, StepBatch
from tutelage.weighting.base import Measured, Rows, RowStatistic

_FARTHEST = 20.0  # nats; beyond, the exponential means nothing any more


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportanceWeight:
    """`min(pi_S / mu, cap)` of the sampled token, for divergences on prefixes that an older or filtered sampler wrote.

    The ratio of the token alone, not of its prefix: with fresh, unfiltered samples it is one and changes nothing.

    Reference: SDPO, arXiv:2601.20802 (the log-ratio clamped to 20 nats, the ratio to 2).
    """

    kind: Literal["importance_weight"] = "importance_weight"
    cap: float = 2.0
    """Largest weight."""

    scope: ClassVar[Literal["token"]] = "token"

    def __post_init__(self) -> None:
        if self.cap <= 0.0:
            raise ConfigError(f"ImportanceWeight needs cap > 0, got {self.cap!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing of the teacher."""
        return frozenset()

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The ratio per row; one where the student did not write the token."""
        log_ratio = (rows.sampled.detach() - rows.batch.behaviour_log_probs).clamp(-_FARTHEST, _FARTHEST)
        return torch.nan_to_num(log_ratio, nan=0.0).exp().clamp(max=self.cap)


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherCertainty:
    """`exp(-rate H_T)`, divided by its mean over the term's tokens of the whole step: less where the teacher is unsure.

    Reference: SRPO, arXiv:2604.02288.
    """

    kind: Literal["teacher_certainty"] = "teacher_certainty"
    rate: float = 1.0
    """Per nat of the teacher's entropy; 0 weighs every token alike."""

    scope: ClassVar[Literal["step"]] = "step"
    statistics: ClassVar[frozenset[str]] = frozenset({"teacher_entropy_nats"})
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def __post_init__(self) -> None:
        if self.rate < 0.0:
            raise ConfigError(f"TeacherCertainty needs rate >= 0, got {self.rate!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's whole distribution."""
        return frozenset({"full"})

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, step: int, gather: Gather
    ) -> Float[Tensor, " row"]:
        """One factor per row of the step."""
        weight = (-self.rate * measured["teacher_entropy_nats"].double()).exp()
        everyone = gather(weight[mask])
        return weight / everyone.mean() if len(everyone) else torch.ones_like(weight)
