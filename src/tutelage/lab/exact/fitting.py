"""A recipe made to fit the small world: what cannot be as large as in training is lowered, and what was lowered is told."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from tutelage.recipes import Recipe
from tutelage.types.parts import parts
from tutelage.types.schedules import Cosine, Linear, Phases


def fit(recipe: Recipe, *, vocab: int, most_n: int) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe for a small vocabulary and few responses per prompt.

    In every part of the recipe a field named `k`, a number of vocabulary entries, is lowered to the vocabulary, where it takes
    all entries; and a field named `n`, responses per prompt, is lowered to `most_n`. Tokens that a recipe names by their text
    are not in this vocabulary.

    Args:
        recipe: As in training.
        vocab: Of the world.
        most_n: Most responses per prompt.

    Returns:
        The recipe, and what was lowered.
    """
    notes: dict[str, None] = {}  # a set that keeps its order
    bounds = {"k": vocab, "n": most_n}

    def lowered(owner: Any, name: str, old: Any) -> Any:
        if name not in bounds or not isinstance(old, int) or old <= bounds[name]:
            return old
        notes[f"{type(owner).__name__}.{name} lowered from {old} to {bounds[name]}"] = None
        return bounds[name]

    fitted = rewritten(recipe, lowered)
    return replace(fitted, terms=tuple(term.resolved(_no_text) for term in fitted.terms)), tuple(notes)


def _no_text(token: str) -> None:
    """The world's tokens are numbers and nothing else."""


def end_of_ramps(recipe: Recipe) -> int:
    """The optimiser step from which on nothing in the recipe moves any more."""
    ramps = (part.steps for part in parts(recipe) if isinstance(part, Linear | Cosine))
    phases = (start for part in parts(recipe) if isinstance(part, Phases) for start in part.starts)
    return max((*ramps, *phases), default=0)


def rewritten(part: Any, change: Callable[[Any, str, Any], Any]) -> Any:
    """A recipe, or a part of one, with some fields changed at any depth; what changes nothing comes back as it was.

    Args:
        part: Any value of a recipe.
        change: From the part that owns a field, the field's name and its value to the new value, or to the same object.
    """
    if isinstance(part, tuple):
        entries = tuple(rewritten(entry, change) for entry in part)
        return entries if any(new is not old for new, old in zip(entries, part, strict=True)) else part
    if isinstance(part, Mapping):
        named = {name: rewritten(entry, change) for name, entry in part.items()}
        return named if any(named[name] is not part[name] for name in part) else part
    if not is_dataclass(part) or isinstance(part, type):
        return part
    found: dict[str, Any] = {}
    for field in fields(part):
        old = getattr(part, field.name)
        new = change(part, field.name, old)
        new = rewritten(old, change) if new is old else new
        if new is not old:
            found[field.name] = new
    return replace(part, **found) if found else part
