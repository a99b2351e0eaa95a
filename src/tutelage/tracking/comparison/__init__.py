"""Runs side by side: final metrics with paired intervals, and the same prompts token by token."""

from tutelage.tracking.comparison.compare import Comparison, Finding, Side, compare
from tutelage.tracking.comparison.paired import Paired, paired_difference
from tutelage.tracking.comparison.prompts import Answers, first_difference
from tutelage.tracking.comparison.text import describe

__all__ = [
    "Answers",
    "Comparison",
    "Finding",
    "Paired",
    "Side",
    "compare",
    "describe",
    "first_difference",
    "paired_difference",
]
