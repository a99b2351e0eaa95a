"""Which tokens and which rollouts count, and how much."""

from typing import Annotated

from pydantic import Field

from tutelage.weighting.base import RandomWeight, Route, Rows, RowStatistic, StepWeight, TeacherRows, TokenWeight
from tutelage.weighting.routes import AnyRoute, LikelyToTeacher, Otherwise, Outcome, Taught
from tutelage.weighting.tokens import EntropyAbove, TeacherEntropyAbove, TrustMask

AnyWeight = Annotated[TrustMask | EntropyAbove | TeacherEntropyAbove, Field(discriminator="kind")]

__all__ = [
    "AnyRoute",
    "AnyWeight",
    "EntropyAbove",
    "LikelyToTeacher",
    "Otherwise",
    "Outcome",
    "RandomWeight",
    "Route",
    "RowStatistic",
    "Rows",
    "StepWeight",
    "Taught",
    "TeacherEntropyAbove",
    "TeacherRows",
    "TokenWeight",
    "TrustMask",
]
