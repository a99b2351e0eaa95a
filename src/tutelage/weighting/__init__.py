"""Which tokens count, and how much."""

from tutelage.weighting.base import Rows, StepWeight, TeacherRows, TokenWeight
from tutelage.weighting.tokens import EntropyAbove, TrustMask

__all__ = ["EntropyAbove", "Rows", "StepWeight", "TeacherRows", "TokenWeight", "TrustMask"]
