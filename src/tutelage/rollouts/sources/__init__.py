"""Who writes the responses: the choices, as values. `rollouts.sample` carries them out."""

from typing import Annotated

from pydantic import Field

from tutelage.rollouts.sources.beside import BlendedRollouts, WatchedRollouts
from tutelage.rollouts.sources.chosen import BestTeacherRollouts
from tutelage.rollouts.sources.environment import EnvironmentRollouts
from tutelage.rollouts.sources.plain import (
    DatasetRollouts,
    MixedRollouts,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
)
from tutelage.rollouts.sources.sampling import ResponseColumn, Sampling
from tutelage.rollouts.sources.stored import BufferedRollouts, ReplayRollouts

AnyRollouts = Annotated[
    StudentRollouts
    | DatasetRollouts
    | TeacherRollouts
    | MixedRollouts
    | TeacherPrefixRollouts
    | BlendedRollouts
    | WatchedRollouts
    | ReplayRollouts
    | BufferedRollouts
    | BestTeacherRollouts
    | EnvironmentRollouts,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyRollouts",
    "BestTeacherRollouts",
    "BlendedRollouts",
    "BufferedRollouts",
    "DatasetRollouts",
    "EnvironmentRollouts",
    "MixedRollouts",
    "ReplayRollouts",
    "ResponseColumn",
    "Sampling",
    "StudentRollouts",
    "TeacherPrefixRollouts",
    "TeacherRollouts",
    "WatchedRollouts",
]
