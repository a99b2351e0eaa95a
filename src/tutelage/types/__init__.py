"""Frozen value types that flow through the loop, from prompts to the objective."""

from tutelage.types.credit import Credit
from tutelage.types.examples import Example, FinishReason, Message
from tutelage.types.head import Head
from tutelage.types.rollouts import Author, Rollout, Verdict, VerdictField
from tutelage.types.signals import (
    Capability,
    ComposedSignal,
    Composition,
    FullSignal,
    RoutedSignal,
    SampledSignal,
    SpanSignal,
    TeacherSignal,
    TopKSignal,
)
from tutelage.types.steps import Gather, StepBatch

__all__ = [
    "Author",
    "Capability",
    "ComposedSignal",
    "Composition",
    "Credit",
    "Example",
    "FinishReason",
    "FullSignal",
    "Gather",
    "Head",
    "Message",
    "Rollout",
    "RoutedSignal",
    "SampledSignal",
    "SpanSignal",
    "StepBatch",
    "TeacherSignal",
    "TopKSignal",
    "Verdict",
    "VerdictField",
]
