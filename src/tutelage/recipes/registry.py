"""All methods by their canonical names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from types import ModuleType
from typing import Any

from pydantic import ValidationError, validate_call

from tutelage.errors import ConfigError, nearest
from tutelage.recipes import (
    baselines,
    behaviour,
    estimators,
    experts,
    horizons,
    replay,
    rewards,
    routing,
    self_distillation,
    supports,
    token_weights,
    tools,
    views,
    white_box,
)
from tutelage.recipes.cards import Card
from tutelage.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A method: the function that makes the value, and its card."""

    name: str
    family: str
    """Name of the module in `tutelage.recipes` that holds it."""
    make: Callable[..., Recipe]
    """Knobs are keyword arguments; methods with another model as teacher take its folder first."""
    card: Card

    def recipe(self, **knobs: Any) -> Recipe:
        """The method with some knobs turned; the others as published. Values may be text, as flags give them.

        Raises:
            ConfigError: There is no such knob, or a value does not fit it.
        """
        known = list(signature(self.make).parameters)
        for name in knobs:
            if name not in known:
                raise ConfigError(
                    f"Recipe {self.name!r} has no knob {name!r}{nearest(name, known)}. Knobs: {', '.join(known)}."
                )
        try:
            return validate_call(self.make)(**knobs)
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            raise ConfigError(
                f"Knob {found['loc'][0]!r} of recipe {self.name!r}: {found['msg']}, got {found['input']!r}."
            ) from None


def _entries(*families: ModuleType) -> Mapping[str, Entry]:
    """What the modules list under `METHODS`; a family is called like its module."""
    return {
        make.__name__: Entry(name=make.__name__, family=family.__name__.rpartition(".")[2], make=make, card=card)
        for family in families
        for make, card in family.METHODS
    }


REGISTRY: Mapping[str, Entry] = _entries(
    baselines,
    white_box,
    supports,
    estimators,
    token_weights,
    routing,
    behaviour,
    horizons,
    replay,
    self_distillation,
    views,
    rewards,
    experts,
    tools,
)


def get(name: str) -> Entry:
    """A method by its canonical name.

    Raises:
        ConfigError: There is none; the message has the nearest name.
    """
    if name not in REGISTRY:
        raise ConfigError(f"There is no recipe {name!r}{nearest(name, REGISTRY)}. Recipes: {', '.join(REGISTRY)}.")
    return REGISTRY[name]
