"""Which tokens count, and how much."""

from tutelage.weighting.base import RandomWeight, Rows, StepWeight, TeacherRows, TokenWeight
from tutelage.weighting.tokens import EntropyAbove, TrustMask

__all__ = ["EntropyAbove", "RandomWeight", "Rows", "StepWeight", "TeacherRows", "TokenWeight", "TrustMask"]
