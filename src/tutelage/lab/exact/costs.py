"""What a recipe asks of the machine for each token that it trains on, read off its parts."""

from dataclasses import dataclass
from typing import Literal

from tutelage.objectives.plan import statistics_needed
from tutelage.recipes import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Per trained token; the writing of the responses is not in it."""

    head_products: int
    """Products of `vocab x width`: logits of either side, and the two that carry the student's gradient back."""
    student_forwards: int
    """Of the whole model; one of them is followed by a backward."""
    teacher_forwards: int
    teacher_gives: Literal["full", "top_k", "sampled", "nothing"]
    """The most that is asked of the teacher: its whole distribution, its likeliest entries, one number, nothing."""


def cost_of(recipe: Recipe) -> Cost:
    """The cost with a teacher in process, whose logits are always computed in whole; a served one saves its own product."""
    teacher = 1 if recipe.needs else 0
    passes = 2 if statistics_needed(recipe.terms) else 1  # what a step is measured by takes a pass of its own
    return Cost(
        head_products=passes * (1 + teacher) + 2,
        student_forwards=passes,
        teacher_forwards=teacher,
        teacher_gives="full"
        if "full" in recipe.needs
        else "top_k"
        if "top_k" in recipe.needs
        else "sampled"
        if "sampled" in recipe.needs
        else "nothing",
    )
