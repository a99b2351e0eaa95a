"""Weights that are one for some tokens of a step and zero for the others.

A term that is to be the mean over the tokens that are left says so by `counts="selected"`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Capability, Gather, StepBatch
from tutelage.weighting.base import Measured, RowStatistic
from tutelage.weighting.statistics import Compatibility, DivergenceShare, EntropyShare, UnionDivergence
from tutelage.weighting.tokens import at_or_above_quantile

PerRow = Float[Tensor, " row"]
Mask = Bool[Tensor, " row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SkipFirst:
    """Zero at the first occurrence of each listed token in a rollout, one elsewhere: tokens of the format, not of the answer.

    Only a tokenizer knows what a token's id is: `resolved` looks it up when a run is put together, and a token that the
    vocabulary lacks is never skipped.

    Reference: "Revisiting OPD", arXiv:2603.25562.
    """

    kind: Literal["skip_first"] = "skip_first"
    tokens: tuple[str, ...]
    """As they stand in the vocabulary."""
    ids: tuple[int, ...] | None = None
    """Their ids; filled in by `resolved`."""

    scope: ClassVar[Literal["step"]] = "step"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    statistics: ClassVar[frozenset[str]] = frozenset()
    measures: ClassVar[tuple[RowStatistic, ...]] = ()

    def resolved(self, lookup: Callable[[str], int | None]) -> "SkipFirst":
        """The same with the ids of the tokens that a vocabulary has."""
        found = (lookup(token) for token in self.tokens)
        return replace(self, ids=tuple(index for index in found if index is not None))

    def __call__(self, batch: StepBatch, measured: Measured, mask: Mask, *, step: int, gather: Gather) -> PerRow:
        """One or zero per row.

        Raises:
            ConfigError: The tokens were not looked up.
        """
        if self.ids is None:
            raise ConfigError(
                f"SkipFirst does not know the ids of {', '.join(self.tokens)}: call `resolved` with the tokenizer's look-up, "
                "as a run does (`Term.resolved`)."
            )
        kept = torch.ones_like(batch.token, dtype=torch.float64)
        for index in self.ids:
            here = mask & (batch.token == index)
            never = torch.iinfo(batch.position.dtype).max
            first = torch.full((len(batch.rollouts),), never, dtype=batch.position.dtype, device=batch.token.device)
            first = first.scatter_reduce(0, batch.rollout[here], batch.position[here], reduce="amin")
            kept[here & (batch.position == first[batch.rollout])] = 0.0
        return kept


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportanceSampled:
    """One for a share of the term's tokens, drawn without replacement, zero for the others.

    The chance is proportional to `h^a d^g`, or to `1 - (1 - h) (1 - d)`, where `h = H_S / ln V` and `d = JSD / ln 2`. The draw
    is a Gumbel top-k whose noise belongs to the token and whose threshold is taken over all processes, so no split of the step
    matters. A token of chance zero is taken only if too few others are left.

    Reference: TIP, arXiv:2604.14084, and its released code.
    """

    kind: Literal["importance_sampled"] = "importance_sampled"
    ratio: float = 0.5
    """Share of the term's tokens that is drawn, in (0, 1]."""
    score: Literal["product", "either"] = "product"
    """`product` has the two powers; `either` is high where one of the two is (soft or), whatever the powers."""
    entropy_power: float = 1.0
    """a, at least 0; 0 leaves the entropy out."""
    divergence_power: float = 0.0
    """g, at least 0; 0 leaves the divergence out, which is then not computed."""
    k: int = 0
    """Teacher's likeliest entries in the divergence, the others being one event; 0 takes all."""

    scope: ClassVar[Literal["step"]] = "step"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    statistics: ClassVar[frozenset[str]] = frozenset()
    draws: ClassVar[Literal[True]] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio <= 1.0:
            raise ConfigError(f"ImportanceSampled needs 0 < ratio <= 1, got {self.ratio!r}: at 0 no token is left.")
        if min(self.entropy_power, self.divergence_power, self.k) < 0:
            raise ConfigError(
                "ImportanceSampled needs entropy_power, divergence_power and k >= 0, got "
                f"{self.entropy_power!r}, {self.divergence_power!r} and {self.k!r}."
            )

    @property
    def measures(self) -> tuple[RowStatistic, ...]:
        """The entropy's share, and the divergence's where it counts."""
        needed = self.score == "either" or self.divergence_power > 0.0
        return (EntropyShare(), DivergenceShare(k=self.k)) if needed else (EntropyShare(),)

    def __call__(self, batch: StepBatch, measured: Measured, mask: Mask, *, step: int, gather: Gather) -> PerRow:
        """One or zero per row."""
        uniform = batch.noise.double().clamp(min=torch.finfo(torch.float64).tiny)
        keys = self._scores(measured).clamp(min=torch.finfo(torch.float64).tiny).log() - (-uniform.log()).log()
        return at_or_above_quantile(keys, gather(keys[mask]), 1.0 - self.ratio)

    def _scores(self, measured: Measured) -> PerRow:
        shares = [measured[statistic.name].double() for statistic in self.measures]
        if self.score == "either":
            return 1.0 - (1.0 - shares[0]) * (1.0 - shares[1])
        powers = (self.entropy_power, self.divergence_power)
        return torch.stack([share**power for share, power in zip(shares, powers, strict=False)]).prod(dim=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Teachable:
    """One for the tokens where both sides disagree and yet mean the same few entries, zero for the others.

    The score is `D C`: D the forward KL on the likeliest entries of either side, C the share of the teacher's likeliest mass on
    entries that the student finds likely too; each is first put on [0, 1] by two quantiles over the term's tokens.

    Reference: TA-OPD, arXiv:2605.26844.
    """

    kind: Literal["teachable"] = "teachable"
    keep: float = 0.05
    """Share of the term's tokens that is kept, in (0, 1]; ties at the threshold all are."""
    k: int = 16
    """Likeliest entries of each side."""
    low: float = 0.05
    """Quantile that becomes 0."""
    high: float = 0.95
    """Quantile that becomes 1."""

    scope: ClassVar[Literal["step"]] = "step"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    statistics: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if not 0.0 < self.keep <= 1.0 or not 0.0 <= self.low < self.high <= 1.0 or self.k < 1:
            raise ConfigError(
                "Teachable needs 0 < keep <= 1, 0 <= low < high <= 1 and k >= 1, got "
                f"{self.keep!r}, {self.low!r}, {self.high!r} and {self.k!r}."
            )

    @property
    def measures(self) -> tuple[RowStatistic, ...]:
        """Both factors."""
        return UnionDivergence(k=self.k), Compatibility(k=self.k)

    def __call__(self, batch: StepBatch, measured: Measured, mask: Mask, *, step: int, gather: Gather) -> PerRow:
        """One or zero per row."""
        factors = [measured[statistic.name].double() for statistic in self.measures]
        score = torch.stack([self._spread(factor, gather(factor[mask])) for factor in factors]).prod(dim=0)
        return at_or_above_quantile(score, gather(score[mask]), 1.0 - self.keep)

    def _spread(self, values: PerRow, everyone: Float[Tensor, " all"]) -> PerRow:
        """Values on [0, 1] by two quantiles; where these are equal they say nothing, and the value is only bounded."""
        if not len(everyone):
            return values
        ordered = everyone.sort().values
        low, high = (ordered[round(quantile * (len(ordered) - 1))] for quantile in (self.low, self.high))
        return ((values - low) / (high - low) if high > low else values).clamp(0.0, 1.0)
