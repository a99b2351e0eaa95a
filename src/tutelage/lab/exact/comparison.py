"""Recipes side by side: bias, variance and cost of each one's gradient, in one world."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.lab.exact.estimator import ROUNDING, moments
from tutelage.lab.exact.fitting import end_of_ramps, fit
from tutelage.lab.exact.targets import sequence_level, token_level
from tutelage.lab.exact.world import MOST_OUTCOMES, Size, make
from tutelage.objectives.linearise import depends_on_step
from tutelage.recipes import Recipe, opd
from tutelage.recipes.costs import Cost, cost_of

REFERENCE = "opd"
"""The recipe, as published, whose variance is the unit; always the first row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bias:
    """How far a mean gradient lies from the gradient of an objective."""

    norm: float
    """Of the difference."""
    relative: float
    """The same over the norm of the objective's gradient; not a number where that is zero."""
    cosine: float
    """Of the angle between the two; not a number where one of them is zero."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One recipe."""

    recipe: str
    value: float
    """Mean loss in nats; no estimate of anything where the loss is a score function's surrogate."""
    gradient_norm: float
    """Of the mean gradient."""
    sequence_bias: Bias
    """Against the reverse KL of whole responses."""
    token_bias: Bias
    """Against the reverse KL of every prefix under fixed sampling."""
    variance: float
    """Trace of the gradient's covariance, one step to the next."""
    relative_variance: float
    """The same over that of plain `opd` in the same world."""
    signal_to_noise: float
    """Squared norm of the mean over the trace; infinite where every step gives the same gradient."""
    cost: Cost
    n: int
    """Most responses per prompt."""
    step: int
    """Optimiser step at which schedules were read."""
    num_outcomes: int
    notes: tuple[str, ...]
    """What was lowered to fit the world, and what that may hide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Recipes in one world."""

    size: Size
    seed: int
    distance: float
    value: float
    """Reverse KL of student and teacher, in nats per token; both objectives have this value."""
    sequence_gradient_norm: float
    token_gradient_norm: float
    rows: tuple[Row, ...]


def compare(
    recipes: Sequence[Recipe],
    *,
    size: Size = Size(),
    seed: int = 0,
    distance: float = 1.0,
    most_n: int = 1,
    step: int | None = None,
    most: int = MOST_OUTCOMES,
) -> Comparison:
    """Measure recipes in a random world, plain `opd` first.

    Args:
        recipes: Any.
        size: Of the world.
        seed: Of its tables.
        distance: Standard deviation of the teacher's logits around the student's.
        most_n: Responses per prompt are lowered to this.
        step: Optimiser step for what moves in a recipe; by default the first at which all of it has arrived.
        most: Bound on the outcomes of one recipe.

    Raises:
        ConfigError: A recipe has more outcomes than `most`.
    """
    chosen = [opd(), *(recipe for recipe in recipes if recipe != opd())]
    names = {term.teacher for recipe in chosen for term in recipe.terms} - {"teacher"}
    world = make(size, seed=seed, distance=distance, teachers=("teacher", *sorted(names)))
    sequence, token = sequence_level(world), token_level(world)
    rows, unit = list[Row](), nan
    for recipe in chosen:
        fitted, notes = fit(recipe, vocab=size.vocab, most_n=most_n)
        if most_n == 1 and any(depends_on_step(term.signal) for term in fitted.terms):
            notes = (*notes, "other tokens decide what one is worth, which n 1 may hide")
        at = end_of_ramps(fitted) if step is None else step
        found = moments(world, fitted, step=at, most=most)
        unit = unit if rows else found.variance
        rows.append(
            Row(
                recipe=recipe.name,
                value=found.value,
                gradient_norm=_norm(found.gradient),
                sequence_bias=bias(found.gradient, sequence.gradient),
                token_bias=bias(found.gradient, token.gradient),
                variance=found.variance,
                relative_variance=found.variance / unit if unit > ROUNDING**2 else nan,
                signal_to_noise=found.signal_to_noise,
                cost=cost_of(recipe),
                n=most_n,
                step=at,
                num_outcomes=found.num_outcomes,
                notes=notes,
            )
        )
    return Comparison(
        size=size,
        seed=seed,
        distance=distance,
        value=sequence.value,
        sequence_gradient_norm=_norm(sequence.gradient),
        token_gradient_norm=_norm(token.gradient),
        rows=tuple(rows),
    )


def bias(mean: Float[Tensor, "prefix vocab"], target: Float[Tensor, "prefix vocab"]) -> Bias:
    """A mean gradient against an objective's."""
    norm = _norm(mean - target)
    return Bias(
        norm=norm,
        relative=_ratio(norm, _norm(target)),
        cosine=_ratio(_ratio(float((mean * target).sum()), _norm(mean)), _norm(target)),
    )


def _norm(gradient: Float[Tensor, "prefix vocab"]) -> float:
    return float(torch.linalg.vector_norm(gradient))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > ROUNDING else nan
