"""One function per published method; each returns a frozen Recipe."""

from tutelage.recipes.baselines import sft
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.registry import REGISTRY, Entry, get
from tutelage.recipes.self_distillation import opsd
from tutelage.recipes.white_box import gkd, opd, tropd, vopd

__all__ = ["REGISTRY", "Card", "Entry", "Knob", "Recipe", "get", "gkd", "opd", "opsd", "sft", "tropd", "vopd"]
