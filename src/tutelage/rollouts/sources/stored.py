"""Sources that train on responses which an earlier student wrote."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError
from tutelage.rollouts.sources.sampling import Sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayRollouts:
    """The student writes to each prompt once; what it wrote is trained on whenever the prompt comes up.

    Reference: offline on-policy distillation, arXiv:2604.13010.
    """

    kind: Literal["replay"] = "replay"
    sampling: Sampling = Sampling()
    """How tokens are drawn."""
    ahead: bool = True
    """True: before the first step to all prompts of the run, by the student as it is then. False: to each prompt when it first
    comes up, by the student as it is by then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BufferedRollouts:
    """A share of each step's responses was written some steps ago; the student writes the others as it is now.

    This is what a run sees whose sampler and trainer do not wait for each other. What is written goes into a buffer; once it is
    `staleness` steps old it takes the place of so many of the step's own prompts, and leaves the buffer.

    Reference: f-OPD, arXiv:2605.17862.
    """

    kind: Literal["buffered"] = "buffered"
    sampling: Sampling = Sampling()
    """How tokens are drawn."""
    staleness: int = 4
    """Age in optimiser steps of what comes out of the buffer; 0 keeps nothing, so that every response is new."""
    reuse: float = 0.5
    """Share of a step's prompts whose place is taken, in [0, 1]; fewer are as long as the buffer has not as many."""

    def __post_init__(self) -> None:
        if self.staleness < 0 or not 0.0 <= self.reuse <= 1.0:
            raise ConfigError(
                f"BufferedRollouts needs staleness >= 0 and 0 <= reuse <= 1, got {self.staleness!r} and {self.reuse!r}."
            )
