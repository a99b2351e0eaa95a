"""A response as it was written, and what a verifier said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from tutelage.types.examples import Example, FinishReason


class Author(IntEnum):
    """Who chose a token."""

    NONE = 0
    """Nobody that can be taught: prompt, tool output, padding. Never enters an objective."""
    STUDENT = 1
    TEACHER = 2
    DATASET = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rollout:
    """One response, token ids as they were sampled (never decoded and tokenised again)."""

    example: Example
    group: int
    """Rollouts of one prompt within a step share it."""
    prompt_ids: Int[Tensor, " prompt"]
    response_ids: Int[Tensor, " time"]
    """Includes the stop token where `finish` is `stop`."""
    authors: Int[Tensor, " time"]
    """`Author` of each response token."""
    behaviour_log_probs: Float[Tensor, " time"]
    """Log-probability in nats under the distribution that was sampled from; NaN where the student did not write the token."""
    finish: FinishReason
    text: str
    """The response decoded for people and verifiers; nothing is ever trained on it."""
    policy_step: int = 0
    """Optimiser steps that the writer had taken."""
    turns: Int[Tensor, " time"] | None = None
    """Turn of each token in a conversation of several turns."""


VerdictField = Literal["reward", "correct", "feedback"]
"""What a part of a recipe may ask of the verifier: a number, a yes or no, or words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a verifier said of one rollout."""

    reward: float | None = None
    """None means that the verifier does not apply; it is not a zero."""
    correct: bool | None = None
    feedback: str | None = None
    marks: Mapping[str, float] = field(default_factory=dict[str, float])
    """Further named scores."""
