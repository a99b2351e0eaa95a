"""How a score function corrects for tokens that another policy drew: functions of rho = pi_S / mu and the advantage."""

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math import estimators

PerRow = Float[Tensor, " row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoRatio:
    """`-A log pi_S`: right where the sampler is the student as it is now."""

    kind: Literal["none"] = "none"

    def __call__(self, sampled: PerRow, behaviour: PerRow, advantage: PerRow) -> PerRow:
        """The surrogate per row."""
        return estimators.score_function(sampled, advantage)


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """`-rho A`, so that tokens of an older or filtered sampler give an unbiased gradient.

    With a cap it is `-sg[min(rho, cap)] A log pi_S` (truncated importance sampling): biased above the cap, bounded variance.
    """

    kind: Literal["importance"] = "importance"
    cap: float | None = None
    """Bound on rho; none keeps it whole. Public OPD scripts truncate at 5."""

    def __post_init__(self) -> None:
        if self.cap is not None and self.cap <= 0.0:
            raise ConfigError(f"Importance needs cap > 0 or none at all, got {self.cap!r}.")

    def __call__(self, sampled: PerRow, behaviour: PerRow, advantage: PerRow) -> PerRow:
        """The surrogate per row."""
        if self.cap is None:
            return estimators.score_function(sampled, advantage, log_ratio_to_behaviour=sampled - behaviour)
        return estimators.truncated_score_function(sampled, behaviour, advantage, cap=self.cap)


@dataclass(frozen=True, kw_only=True, slots=True)
class Clipped:
    """`-min(rho A, clip(rho, 1 - low, 1 + high) A)`: no gradient where rho has already moved the way that A asks for.

    Reference: PPO, arXiv:1707.06347, equation 7; GRPO, arXiv:2402.03300; `high` > `low` is DAPO's, arXiv:2503.14476;
    `dual` that of dual-clip PPO, arXiv:1912.09729.
    """

    kind: Literal["clipped"] = "clipped"
    low: float = 0.2
    """Below 1 - low nothing is gained by lowering rho further."""
    high: float = 0.2
    """Above 1 + high nothing is gained by raising rho further."""
    dual: float | None = None
    """Bound on rho where A < 0, above 1; without it such tokens have unbounded weight."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= 1.0 or self.high < 0.0 or (self.dual is not None and self.dual <= 1.0):
            raise ConfigError(
                f"Clipped needs 0 <= low <= 1, high >= 0 and dual > 1 or none at all, got {self.low!r}, {self.high!r} and "
                f"{self.dual!r}."
            )

    def __call__(self, sampled: PerRow, behaviour: PerRow, advantage: PerRow) -> PerRow:
        """The surrogate per row."""
        return estimators.clipped_score_function(sampled, behaviour, advantage, low=self.low, high=self.high, dual=self.dual)


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """`-sg[rho] A log pi_S` where low <= rho <= high, nothing elsewhere: where trainer and sampler disagree too much.

    Reference: IcePop in Ring-1T, arXiv:2510.18855; the gate of MOPD, arXiv:2601.02780.
    """

    kind: Literal["band"] = "band"
    low: float = 0.5
    """Smallest rho that counts."""
    high: float = 5.0
    """Largest rho that counts."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high:
            raise ConfigError(f"Band needs 0 <= low < high, got {self.low!r} and {self.high!r}.")

    def __call__(self, sampled: PerRow, behaviour: PerRow, advantage: PerRow) -> PerRow:
        """The surrogate per row."""
        return estimators.banded_score_function(sampled, behaviour, advantage, low=self.low, high=self.high)


AnyRatio = Annotated[NoRatio | Importance | Clipped | Band, Field(discriminator="kind")]
