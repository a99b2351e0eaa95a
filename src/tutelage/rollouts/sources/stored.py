"""Sources that train on responses which an earlier student wrote."""

from dataclasses import dataclass
from typing import Literal

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
