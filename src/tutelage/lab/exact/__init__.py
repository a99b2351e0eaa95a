"""The exact oracle: bias and variance of any recipe's gradient in a world small enough to enumerate."""

from tutelage.lab.exact.comparison import Bias, Comparison, Row, compare
from tutelage.lab.exact.estimator import Moments, moments, obstacle
from tutelage.lab.exact.fitting import end_of_ramps, fit
from tutelage.lab.exact.outcomes import outcomes
from tutelage.lab.exact.targets import Target, sequence_level, token_level
from tutelage.lab.exact.world import MOST_OUTCOMES, Size, World, make

__all__ = [
    "MOST_OUTCOMES",
    "Bias",
    "Comparison",
    "Moments",
    "Row",
    "Size",
    "Target",
    "World",
    "compare",
    "end_of_ramps",
    "fit",
    "make",
    "moments",
    "obstacle",
    "outcomes",
    "sequence_level",
    "token_level",
]
