"""The catalogue of all methods as plain values, for readers that must not import torch.

`python -m tutelage.recipes.catalogue` writes it beside this file.
"""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from tutelage.recipes.axes import axes_of
from tutelage.recipes.costs import cost_of
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.registry import REGISTRY, Entry
from tutelage.rollouts.sources import DatasetRollouts, MixedRollouts
from tutelage.teachers.context_parts import columns_of
from tutelage.teachers.parts import ModelTeacher

PATH = Path(__file__).with_name("catalogue.json")
MEASURED = Path(__file__).parents[3] / "benchmarks" / "reproduction" / "summary.json"
"""Rows of the reproduction table by method, beside the source; the catalogue carries them into the package."""


def catalogue() -> dict[str, dict[str, Any]]:
    """Name -> card, family, needs and an example command, all derived from the recipes."""
    return {name: _described(entry) for name, entry in REGISTRY.items()}


def text() -> str:
    """The catalogue as it lies in the package."""
    return json.dumps(catalogue(), indent=1, ensure_ascii=False) + "\n"


def write(path: Path = PATH) -> None:
    """Write the catalogue."""
    path.write_text(text(), encoding="utf-8")


def _described(entry: Entry) -> dict[str, Any]:
    recipe = entry.recipe()
    return {
        **asdict(entry.card),
        "family": entry.family,
        "needs": sorted(recipe.needs),
        "axes": axes_of(recipe),
        "cost": asdict(cost_of(recipe)),
        "verdicts": sorted(recipe.verdicts),
        "columns": _columns(recipe),
        "command": _command(entry.name, recipe),
        "reproduction": _measured().get(entry.name, []),
    }


@cache
def _measured() -> dict[str, list[dict[str, Any]]]:
    return json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}


def _columns(recipe: Recipe) -> list[str]:
    columns = {"prompt"}
    if isinstance(recipe.rollouts, DatasetRollouts | MixedRollouts):
        columns.add(recipe.rollouts.column)
    for teacher in recipe.teachers.values():
        columns.update(columns_of(teacher.context))
    return sorted(columns)


def _command(name: str, recipe: Recipe) -> str:
    teacher = " --teacher TEACHER" if isinstance(recipe.teacher, ModelTeacher) else ""
    return f"tutelage train {name} --student STUDENT{teacher} --data PROMPTS.jsonl"


if __name__ == "__main__":
    write()
