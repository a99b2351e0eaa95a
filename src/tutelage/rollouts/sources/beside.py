"""Sources in which the teacher reads along while the student writes."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError
from tutelage.rollouts.sources.sampling import Sampling
from tutelage.types.schedules import Scalar, range_of


@dataclass(frozen=True, kw_only=True, slots=True)
class BlendedRollouts:
    """Every token is drawn as close to the teacher as a ball around the student allows.

    The distribution is the geometric blend `pi_S^(1 - b) pi_T^b / Z` with the largest `b` for which KL(mu || pi_S) <= radius.
    The tokens count as the student's; their behaviour is the blend. At radius 0 the teacher is not asked.

    Reference: trust-region behaviour blending, arXiv:2605.31159.
    """

    kind: Literal["blended"] = "blended"
    sampling: Sampling = Sampling()
    """How tokens are drawn: the temperature acts on both sides before they are blended. Filters are refused."""
    radius: Scalar = 0.1
    """Of the ball, in nats; usually a line to 0."""

    def __post_init__(self) -> None:
        if min(range_of(self.radius)) < 0.0:
            raise ConfigError(f"BlendedRollouts needs radius >= 0 nats, got {self.radius!r}.")
        if self.sampling.temperature == 0.0 or self.sampling.top_p < 1.0 or self.sampling.top_k > 0:
            raise ConfigError(
                f"BlendedRollouts needs temperature > 0, top_p 1 and top_k 0, got temperature {self.sampling.temperature!r}, "
                f"top_p {self.sampling.top_p!r}, top_k {self.sampling.top_k!r}: the ball lies around the student's whole "
                "distribution."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedRollouts:
    """The student writes, and is stopped where the teacher has agreed with it for suspiciously long.

    At each token the reverse KL on the student's top entries and one tail is noted; `z_t` is its mean over the last `window`
    tokens. Each response leaves the least of its windows in a buffer, and the threshold is a quantile of the buffer. When
    `count` windows in a row lie below it, the response ends and is cut back to the start of the first of them.

    Reference: the KL agreement trap, arXiv:2606.09471.
    """

    kind: Literal["watched"] = "watched"
    sampling: Sampling = Sampling()
    """How tokens are drawn."""
    window: int = 64
    """Tokens in the running mean."""
    entries: int = 64
    """The student's likeliest entries of which the divergence is taken; the others are one more event."""
    buffer: int = 4096
    """Responses whose least window is remembered; the oldest goes first."""
    min_fill: int = 512
    """Remembered responses below which nothing is stopped."""
    warmup_steps: int = 50
    """Optimiser steps before which nothing is stopped."""
    count: int | None = 4
    """Low windows in a row that end a response; None never ends one."""
    share: float = 0.3
    """The threshold is the quantile `1 - share` of the remembered minima: at 1 the lowest of them, at 0 the highest."""
    grace: int = 0
    """The first window never counts, since cutting it would leave nothing, and neither do so many that follow it."""

    def __post_init__(self) -> None:
        if min(self.window, self.entries, self.buffer, self.min_fill) < 1 or self.min_fill > self.buffer:
            raise ConfigError(
                f"WatchedRollouts needs window, entries and min_fill >= 1 and min_fill <= buffer, got window {self.window!r}, "
                f"entries {self.entries!r}, min_fill {self.min_fill!r}, buffer {self.buffer!r}."
            )
        never_negative = min(self.warmup_steps, self.grace)
        if not 0.0 <= self.share <= 1.0 or never_negative < 0 or (self.count is not None and self.count < 1):
            raise ConfigError(
                "WatchedRollouts needs 0 <= share <= 1, warmup_steps and grace >= 0, and count >= 1 or none, got share "
                f"{self.share!r}, warmup_steps {self.warmup_steps!r}, grace {self.grace!r}, count {self.count!r}."
            )
