"""What a recipe asks of the machine for each token that it trains on, read off its parts."""

from dataclasses import dataclass
from typing import Literal

from tutelage.controllers import AlignedWindow, Extrapolation
from tutelage.objectives.plan import statistics_needed
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import (
    BestTeacherRollouts,
    BlendedRollouts,
    BufferedRollouts,
    EnvironmentRollouts,
    MixedRollouts,
    ReplayRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
    WatchedRollouts,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Per trained token, with every teacher in process; what is written, and by whom, comes on top."""

    head_products: int
    """Products of `vocab x width`: logits of either side, and the two that carry the student's gradient back."""
    student_forwards: int
    """Of the whole model; one of them is followed by a backward."""
    teacher_forwards: int
    """Of all teachers that score; of experts that divide the rollouts among them each row takes one."""
    teacher_gives: Literal["full", "top_k", "sampled", "nothing"]
    """The most that is asked of a teacher: its whole distribution, its likeliest entries, one number, nothing."""
    generation: tuple[str, ...] = ()
    """What is written beside or instead of one set of responses by the student alone."""


def cost_of(recipe: Recipe) -> Cost:
    """The cost of a recipe; logits are always computed in whole, and a served teacher would save its own product."""
    teachers = sum(bool(recipe.needs_of(name)) for name in recipe.teachers)
    passes = 2 if statistics_needed(recipe.terms) else 1  # what a step is measured by takes a pass of its own
    return Cost(
        head_products=passes * (1 + teachers) + 2,
        student_forwards=passes,
        teacher_forwards=teachers,
        teacher_gives="full"
        if "full" in recipe.needs
        else "top_k"
        if "top_k" in recipe.needs
        else "sampled"
        if "sampled" in recipe.needs
        else "nothing",
        generation=(*_of_source(recipe), *_of_controllers(recipe)),
    )


def _of_source(recipe: Recipe) -> tuple[str, ...]:
    match recipe.rollouts:
        case TeacherRollouts():
            return ("the teacher writes to each prompt once, the student nothing",)
        case MixedRollouts(otherwise="teacher", student_fraction=share) if share < 1.0:
            return ("the teacher writes some batches",)
        case TeacherPrefixRollouts():
            return ("the teacher begins the responses",)
        case BlendedRollouts() | WatchedRollouts():
            return ("the teacher reads along, a forward per token that is written",)
        case EnvironmentRollouts(max_turns=turns):
            return (f"the student reads each conversation again for each of up to {turns} turns",)
        case ReplayRollouts():
            return ("the student writes to each prompt once for the whole run",)
        case BufferedRollouts(staleness=staleness, reuse=reuse) if staleness > 0 and reuse > 0.0:
            return (f"up to {reuse:.0%} of the prompts take responses that are {staleness} steps old, and cost no writing",)
        case BestTeacherRollouts(teacher_n=n, hints=hints):
            again = f", and {hints} more with a hint where none is right" if hints else ""
            return (f"the teacher writes {n} responses to each prompt once{again}; the student reads them at every step",)
        case _:
            return ()


def _of_controllers(recipe: Recipe) -> tuple[str, ...]:
    told: list[str] = []
    for part in recipe.controllers.values():
        match part:
            case AlignedWindow(every=every, responses=responses):
                told.append(f"{responses} whole responses and two gradients every {every} steps")
            case Extrapolation(num_prompts=prompts, trials=trials):
                told.append(f"up to {1 + trials} x {prompts} greedy responses at steps that are powers of two")
    return tuple(told)
