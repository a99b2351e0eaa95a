"""Weights that depend on where in its rollout a token stands, and on what stands before it."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Capability, Gather, StepBatch
from tutelage.weighting.base import Measured, RowStatistic

PerRow = Float[Tensor, " row"]
Mask = Bool[Tensor, " row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyAgreement:
    """`1 + boost (1 - share)`, where the share is that of the rollout's disagreement that came before the token.

    Disagreement is the size of `log pi_T - log mu` of each token, so what follows a large disagreement counts for less.

    Reference: IW-OPD, arXiv:2606.22600.
    """

    kind: Literal["early_agreement"] = "early_agreement"
    boost: float = 0.5
    """What the first token gets above one, at least 0."""
    epsilon: float = 1e-8
    """Added to the rollout's disagreement, in nats."""

    scope: ClassVar[Literal["step"]] = "step"
    needs: ClassVar[frozenset[Capability]] = frozenset({"sampled"})
    statistics: ClassVar[frozenset[str]] = frozenset({"teacher_log_prob"})
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def __post_init__(self) -> None:
        if self.boost < 0.0 or self.epsilon <= 0.0:
            raise ConfigError(f"EarlyAgreement needs boost >= 0 and epsilon > 0, got {self.boost!r} and {self.epsilon!r}.")

    def __call__(self, batch: StepBatch, measured: Measured, mask: Mask, *, step: int, gather: Gather) -> PerRow:
        """One factor per row, between 1 and 1 + boost, falling along each rollout."""
        size = (measured["teacher_log_prob"].double() - batch.behaviour_log_probs.double()).abs()
        size = torch.where(mask, size, 0.0)
        totals = _sums(size, batch.rollout, len(batch.rollouts))
        started = (totals.cumsum(0) - totals)[batch.rollout]  # rows lie in the order of the rollouts and of time
        before = size.cumsum(0) - size - started
        return 1.0 + self.boost * (1.0 - before / (totals[batch.rollout] + self.epsilon)).clamp(0.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionRamp:
    """`floor + (1 - floor) sigmoid((u - centre) / width)`, where u in (0, 1) is how far along its rollout a token stands.

    Only the term's own tokens count, so neither padding nor other rollouts matter.

    Reference: PW-OPSD, arXiv:2605.21606.
    """

    kind: Literal["position_ramp"] = "position_ramp"
    floor: float = 0.25
    """Weight that early tokens keep, in [0, 1]; 1 switches the ramp off."""
    centre: float = 0.30
    """Where the ramp is half-way."""
    width: float = 0.10
    """How gently it rises, above 0."""

    scope: ClassVar[Literal["step"]] = "step"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    statistics: ClassVar[frozenset[str]] = frozenset()
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor <= 1.0 or self.width <= 0.0:
            raise ConfigError(f"PositionRamp needs 0 <= floor <= 1 and width > 0, got {self.floor!r} and {self.width!r}.")

    def __call__(self, batch: StepBatch, measured: Measured, mask: Mask, *, step: int, gather: Gather) -> PerRow:
        """One factor per row, between floor and 1, rising along each rollout."""
        own = mask.double()
        lengths = _sums(own, batch.rollout, len(batch.rollouts))
        place = own.cumsum(0) - (lengths.cumsum(0) - lengths)[batch.rollout]
        along = (place - 0.5) / lengths[batch.rollout].clamp(min=1.0)
        return self.floor + (1.0 - self.floor) * torch.sigmoid((along - self.centre) / self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """How little the two sides disagree in a segment against the rollout's first one: `min((d_1 + e) / (d_k + e), bound)`.

    A segment is a run of the term's tokens with nobody else's between them, or a turn where the rollout has turns; `d_k` is the
    mean size of `log pi_S - log pi_T` in it. The first segment has weight 1.

    Reference: SOD, arXiv:2605.07725, whose product over segments is this quotient.
    """

    kind: Literal["drift"] = "drift"
    bound: float = 1.2
    """Largest weight (1 + delta), at least 1."""
    epsilon: float = 1e-6
    """Added to both sides of the quotient, in nats."""

    scope: ClassVar[Literal["step"]] = "step"
    needs: ClassVar[frozenset[Capability]] = frozenset({"sampled"})
    statistics: ClassVar[frozenset[str]] = frozenset({"student_log_prob", "teacher_log_prob"})
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def __post_init__(self) -> None:
        if self.bound < 1.0 or self.epsilon <= 0.0:
            raise ConfigError(f"Drift needs bound >= 1 and epsilon > 0, got {self.bound!r} and {self.epsilon!r}.")

    def __call__(self, batch: StepBatch, measured: Measured, mask: Mask, *, step: int, gather: Gather) -> PerRow:
        """One factor per row, the same within a segment."""
        rows = mask.nonzero().squeeze(-1)
        found = torch.ones(batch.num_rows, dtype=torch.float64, device=mask.device)
        if not len(rows):
            return found
        size = (measured["student_log_prob"].double() - measured["teacher_log_prob"].double())[rows].abs()
        segment, first = segments(batch, rows)
        count = int(segment[-1]) + 1
        mean = _sums(size, segment, count) / _sums(torch.ones_like(size), segment, count) + self.epsilon
        of_first = mean[first]
        weight = torch.where(first == torch.arange(count, device=mask.device), 1.0, (of_first / mean).clamp(max=self.bound))
        found[rows] = weight[segment]
        return found


def segments(batch: StepBatch, rows: Int[Tensor, " chosen"]) -> tuple[Int[Tensor, " chosen"], Int[Tensor, " segment"]]:
    """The segment of each of some rows, and of each segment the first one of its rollout.

    A segment ends where the rollout does, where a token is left out, and where a turn ends.
    """
    rollout, position = batch.rollout[rows], batch.position[rows]
    turn = torch.zeros_like(position)
    for index, written in enumerate(batch.rollouts):
        if written.turns is not None:
            here = rollout == index
            turn[here] = written.turns.to(position)[position[here]]
    new = torch.ones_like(rollout, dtype=torch.bool)
    new[1:] = (rollout.diff() != 0) | (position.diff() != 1) | (turn.diff() != 0)
    segment = new.long().cumsum(0) - 1
    of = rollout[new]
    starts = torch.ones_like(of, dtype=torch.bool)
    starts[1:] = of.diff() != 0
    return segment, starts.nonzero().squeeze(-1)[starts.long().cumsum(0) - 1]


def _sums(values: PerRow, index: Int[Tensor, " row"], count: int) -> Float[Tensor, " group"]:
    return torch.zeros(count, dtype=torch.float64, device=values.device).index_add_(0, index, values.double())
