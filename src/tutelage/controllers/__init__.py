"""Rules beside the objective: they look at finished steps, and move a setting or the weights."""

from collections.abc import Mapping

from tutelage.controllers.base import Controller, Instruments
from tutelage.controllers.extrapolation import ExtrapolationController
from tutelage.controllers.parts import AlignedWindow, AnyController, Extrapolation
from tutelage.controllers.window import WindowController

__all__ = ["AlignedWindow", "AnyController", "Controller", "Extrapolation", "Instruments", "build"]


def build(parts: Mapping[str, AnyController], instruments: Instruments) -> dict[str, Controller]:
    """The rules of a recipe at work, under their names, in the recipe's order."""
    return {name: _build(part, instruments) for name, part in parts.items()}


def _build(part: AnyController, instruments: Instruments) -> Controller:
    match part:
        case AlignedWindow():
            return WindowController(part, instruments)
        case Extrapolation():
            return ExtrapolationController(part, instruments)
