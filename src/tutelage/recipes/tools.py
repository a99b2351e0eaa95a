"""Tools that go around any method."""

from dataclasses import replace

from tutelage.controllers import Extrapolation
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.white_box import opd


def extrapolated(recipe: Recipe, *, factor: float = 2.0, trials: int = 5, num_prompts: int = 64) -> Recipe:
    """Any method with extrapolated steps: after 1, 2, 4, 8, ... steps the weights go on in their direction where that helps.

    Args:
        recipe: The method, which stays what it is.
        factor: Length of the first trial, in units of the difference since the last point.
        trials: Most trials at a time.
        num_prompts: Training prompts whose greedy answers decide.

    Reference: arXiv:2605.11739.
    """
    rule = Extrapolation(factor=factor, trials=trials, num_prompts=num_prompts)
    return replace(recipe, controllers={**recipe.controllers, "extrapolation": rule})


def effopd(
    teacher: str = "",
    *,
    factor: float = 2.0,
    trials: int = 5,
    num_prompts: int = 64,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """Extrapolated steps around opd; `extrapolated` puts them around any other method.

    Reference: arXiv:2605.11739.
    """
    base = opd(teacher, n=n, max_new_tokens=max_new_tokens)
    return replace(extrapolated(base, factor=factor, trials=trials, num_prompts=num_prompts), name="effopd")


EFFOPD = Card(
    title="Extrapolated steps",
    paper="2605.11739",
    equation="theta' = theta + f (theta - base) at steps 1, 2, 4, 8, ...;  f <- f / (1 + f) while a validation score rises",
    summary=(
        "Around any method: at steps that are powers of two the weights go on in the direction that they have taken since the "
        "last such step, as long as greedy answers to a few training prompts get better; a trial that does not help is taken "
        "back bit for bit."
    ),
    knobs=(
        Knob(name="factor", default="2.0", meaning="length of the first trial (f)"),
        Knob(name="trials", default="5", meaning="most trials at a time"),
        Knob(name="num_prompts", default="64", meaning="training prompts whose greedy answers decide"),
        Knob(name="n", default="4", meaning="responses per prompt"),
        Knob(name="max_new_tokens", default="256", meaning="longest response in tokens"),
    ),
    settings="about 3 times fewer steps to the same accuracy",
    exact_check="a rejected trial restores the weights bit for bit; accepted points are base + 3, 5, 7, 9, 11 differences",
    differs="the score is taken on the first training prompts, since a run has no third set of problems",
)

METHODS = ((effopd, EFFOPD),)
"""The functions of this family with their cards."""
