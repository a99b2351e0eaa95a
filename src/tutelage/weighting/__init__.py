"""Which tokens count, and how much."""

from tutelage.weighting.base import Gather, Rows, StepWeight, TeacherRows, TokenWeight
from tutelage.weighting.tokens import EntropyAbove, TrustMask

__all__ = ["EntropyAbove", "Gather", "Rows", "StepWeight", "TeacherRows", "TokenWeight", "TrustMask"]
