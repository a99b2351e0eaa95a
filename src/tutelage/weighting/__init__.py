"""Which tokens and which rollouts count, and how much."""

from typing import Annotated

from pydantic import Field

from tutelage.weighting.base import RandomWeight, Route, Rows, RowStatistic, StepWeight, TeacherRows, TokenWeight
from tutelage.weighting.correction import ImportanceWeight, TeacherCertainty
from tutelage.weighting.routes import AnyRoute, LikelyToTeacher, Otherwise, Outcome, Taught
from tutelage.weighting.tokens import EntropyAbove, TeacherEntropyAbove, TrustMask

AnyWeight = Annotated[
    TrustMask | EntropyAbove | TeacherEntropyAbove | TeacherCertainty | ImportanceWeight, Field(discriminator="kind")
]

__all__ = [
    "AnyRoute",
    "AnyWeight",
    "EntropyAbove",
    "ImportanceWeight",
    "LikelyToTeacher",
    "Otherwise",
    "Outcome",
    "RandomWeight",
    "Route",
    "RowStatistic",
    "Rows",
    "StepWeight",
    "Taught",
    "TeacherCertainty",
    "TeacherEntropyAbove",
    "TeacherRows",
    "TokenWeight",
    "TrustMask",
]
