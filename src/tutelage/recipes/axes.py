"""Which choices a method makes, axis by axis, read off its parts."""

from typing import Any

from tutelage.credit import GroupRelative
from tutelage.objectives import Reshaped, ScoreFunction
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import StudentRollouts
from tutelage.teachers.parts import ModelTeacher, RoutedTeacher, SelfTeacher, ServedTeacher
from tutelage.types.parts import parts
from tutelage.types.schedules import Controlled, Cosine, Linear, Phases

AXES: dict[str, str] = {
    "rollouts": "who writes the responses",
    "teacher": "whose weights teach",
    "context": "what only the teacher reads",
    "support": "on which entries of the vocabulary",
    "signal": "which divergence or estimator",
    "weights": "which tokens count, and how much",
    "routing": "which rollouts count",
    "rewards": "what a verifier adds",
    "schedule": "what moves over training",
    "teacher_update": "how the teacher moves",
}
"""Every axis, and the question that it answers."""


def axes_of(recipe: Recipe) -> dict[str, list[str]]:
    """For each axis the kinds of parts that a recipe has there, in the order of the recipe; empty where it has none."""
    teachers = [part for part in parts(recipe) if isinstance(part, ModelTeacher | ServedTeacher | SelfTeacher | RoutedTeacher)]
    readers = [part for part in teachers if not isinstance(part, RoutedTeacher)]
    found = {
        "rollouts": _rollouts(recipe),
        "teacher": [part.kind for part in (*teachers, *recipe.compositions.values())],
        "context": [part.context.kind for part in readers if part.context.kind != "none"],
        "support": [kind for term in recipe.terms for kind in _support(term.signal)],
        "signal": [kind for term in recipe.terms for kind in _signal(term.signal)],
        "weights": [weight.kind for term in recipe.terms for weight in term.weights],
        "routing": [route.kind for term in recipe.terms for route in term.routes],
        "rewards": _kinds(recipe, GroupRelative, Reshaped),
        "schedule": [*_kinds(recipe, Linear, Cosine, Phases, Controlled), *(part.kind for part in recipe.controllers.values())],
        "teacher_update": [
            part.update.kind for part in readers if isinstance(part, SelfTeacher) and part.update.kind != "frozen"
        ],
    }
    return {axis: list(dict.fromkeys(kinds)) for axis, kinds in found.items()}


def _kinds(recipe: Recipe, *types: type) -> list[str]:
    return [part.kind for part in parts(recipe) if isinstance(part, types)]


def _rollouts(recipe: Recipe) -> list[str]:
    horizon = isinstance(recipe.rollouts, StudentRollouts) and recipe.rollouts.horizon is not None
    return [recipe.rollouts.kind, *(["horizon"] if horizon else [])]


def _support(signal: Any) -> list[str]:
    support = getattr(signal, "support", None)
    return [support.kind] if support is not None else ["sampled_token"]


def _signal(signal: Any) -> list[str]:
    return [signal.kind, signal.advantage.kind] if isinstance(signal, ScoreFunction) else [signal.kind]
