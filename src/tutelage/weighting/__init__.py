"""Which tokens and which rollouts count, and how much."""

from typing import Annotated

from pydantic import Field

from tutelage.weighting.base import (
    DrawingWeight,
    RandomWeight,
    Resolvable,
    Route,
    Rows,
    RowStatistic,
    StepWeight,
    TeacherRows,
    TokenWeight,
)
from tutelage.weighting.correction import ImportanceWeight, TeacherCertainty
from tutelage.weighting.freshness import Freshness
from tutelage.weighting.places import Drift, EarlyAgreement, PositionRamp
from tutelage.weighting.routes import AnyRoute, LikelyToTeacher, Otherwise, Outcome, Taught
from tutelage.weighting.selections import ImportanceSampled, SkipFirst, Teachable
from tutelage.weighting.shares import EntropyContrast, PerplexityShare
from tutelage.weighting.tokens import EntropyAbove, TeacherEntropyAbove, TrustMask

AnyWeight = Annotated[
    TrustMask
    | EntropyAbove
    | TeacherEntropyAbove
    | TeacherCertainty
    | ImportanceWeight
    | SkipFirst
    | ImportanceSampled
    | Teachable
    | EarlyAgreement
    | PositionRamp
    | Drift
    | EntropyContrast
    | PerplexityShare
    | Freshness,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyRoute",
    "AnyWeight",
    "DrawingWeight",
    "Drift",
    "EarlyAgreement",
    "EntropyAbove",
    "EntropyContrast",
    "Freshness",
    "ImportanceSampled",
    "ImportanceWeight",
    "LikelyToTeacher",
    "Otherwise",
    "Outcome",
    "PerplexityShare",
    "PositionRamp",
    "RandomWeight",
    "Resolvable",
    "Route",
    "RowStatistic",
    "Rows",
    "SkipFirst",
    "StepWeight",
    "Taught",
    "Teachable",
    "TeacherCertainty",
    "TeacherEntropyAbove",
    "TeacherRows",
    "TokenWeight",
    "TrustMask",
]
