"""Frozen value types that flow through the loop, from prompts to the objective."""

from tutelage.types.examples import Example, FinishReason, Message
from tutelage.types.head import Head
from tutelage.types.rollouts import Author, Rollout, Verdict
from tutelage.types.signals import (
    Capability,
    FullSignal,
    SampledSignal,
    TeacherSignal,
    TopKSignal,
)
from tutelage.types.steps import StepBatch

__all__ = [
    "Author",
    "Capability",
    "Example",
    "FinishReason",
    "FullSignal",
    "Head",
    "Message",
    "Rollout",
    "SampledSignal",
    "StepBatch",
    "TeacherSignal",
    "TopKSignal",
    "Verdict",
]
