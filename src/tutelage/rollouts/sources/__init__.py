"""Who writes the responses: the choices, as values. `rollouts.sample` carries them out."""

from typing import Annotated

from pydantic import Field

from tutelage.rollouts.sources.beside import BlendedRollouts, WatchedRollouts
from tutelage.rollouts.sources.plain import (
    DatasetRollouts,
    MixedRollouts,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
)
from tutelage.rollouts.sources.sampling import ResponseColumn, Sampling

AnyRollouts = Annotated[
    StudentRollouts
    | DatasetRollouts
    | TeacherRollouts
    | MixedRollouts
    | TeacherPrefixRollouts
    | BlendedRollouts
    | WatchedRollouts,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyRollouts",
    "BlendedRollouts",
    "DatasetRollouts",
    "MixedRollouts",
    "ResponseColumn",
    "Sampling",
    "StudentRollouts",
    "TeacherPrefixRollouts",
    "TeacherRollouts",
    "WatchedRollouts",
]
