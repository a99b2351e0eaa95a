"""A recipe made to fit the small world: what cannot be as large as in training is lowered, and what was lowered is told."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from tutelage.recipes import Recipe
from tutelage.types.schedules import Cosine, Linear


def fit(recipe: Recipe, *, vocab: int, most_n: int) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe for a small vocabulary and few responses per prompt.

    In every part of the recipe a field named `k`, a number of vocabulary entries, is lowered to the vocabulary, where it takes
    all entries; and a field named `n`, responses per prompt, is lowered to `most_n`.

    Args:
        recipe: As in training.
        vocab: Of the world.
        most_n: Most responses per prompt.

    Returns:
        The recipe, and what was lowered.
    """
    notes: dict[str, None] = {}  # a set that keeps its order
    fitted = _lowered(recipe, {"k": vocab, "n": most_n}, notes)
    return fitted, tuple(notes)


def end_of_ramps(recipe: Recipe) -> int:
    """The optimiser step from which on nothing in the recipe moves any more."""
    return max((part.steps for part in _parts(recipe) if isinstance(part, Linear | Cosine)), default=0)


def _lowered(part: Any, bounds: dict[str, int], notes: dict[str, None]) -> Any:  # any part of a recipe, and any value in one
    if isinstance(part, tuple):
        return tuple(_lowered(entry, bounds, notes) for entry in part)
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changes: dict[str, Any] = {}
    for field in fields(part):
        old = getattr(part, field.name)
        if field.name in bounds and isinstance(old, int) and old > bounds[field.name]:
            changes[field.name] = bounds[field.name]
            notes[f"{type(part).__name__}.{field.name} lowered from {old} to {bounds[field.name]}"] = None
        elif (new := _lowered(old, bounds, notes)) is not old:
            changes[field.name] = new
    return replace(part, **changes) if changes else part


def _parts(part: Any) -> Iterator[Any]:
    yield part
    if isinstance(part, tuple):
        for entry in part:
            yield from _parts(entry)
    elif is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            yield from _parts(getattr(part, field.name))
