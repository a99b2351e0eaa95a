"""Bias, variance and cost of the gradient of every recipe, by enumeration, in three tiny worlds.

Prints JSON, or writes it with `--out`:

    python benchmarks/exact.py --out benchmarks/results/exact.json
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.cli.lab import as_json
from tutelage.lab.exact import Size, compare, obstacle
from tutelage.recipes import REGISTRY, Recipe, gkd, opd

SEEDS = (0, 1, 2)
SIZE = Size(vocab=4, length=3)
SIGNIFICANT = 10
"""Digits that are kept: what rounding may change from machine to machine is not written down."""


def recipes() -> dict[str, Recipe]:
    """All methods that tables can run, whole returns, and the full reverse KL on the student's own responses."""
    published = {name: entry.recipe() for name, entry in REGISTRY.items() if obstacle(entry.recipe()) is None}
    return published | {"opd discount=1": opd(discount=1.0), "gkd beta=1 lambda=1": gkd(beta=1.0, student_fraction=1.0)}


def measured(chosen: Mapping[str, Recipe], *, seed: int) -> dict[str, Any]:
    """The comparison in one world, its rows under the names at hand; plain opd is the first."""
    found = as_json(compare([replace(recipe, name=name) for name, recipe in chosen.items()], size=SIZE, seed=seed))
    return rounded(found)


def results() -> dict[str, Any]:
    """One comparison per seed."""
    return {"runs": [measured(recipes(), seed=seed) for seed in SEEDS]}


def rounded(value: Any) -> Any:
    """Numbers without the digits that rounding decides."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return 0.0 if abs(value) < 1e-12 else float(f"{value:.{SIGNIFICANT}g}")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    text = json.dumps(results(), indent=1) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)


if __name__ == "__main__":
    main()
