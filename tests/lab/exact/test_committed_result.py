"""What the documentation says of the oracle's table."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tutelage.lab.exact import Size, compare
from tutelage.recipes import opsd

ROOT = Path(__file__).parents[3]
RUNS: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "results" / "exact.json").read_text())["runs"]
FULL = "gkd beta=1 lambda=1"


def by_name(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["recipe"]: row for row in run["rows"]}


def numbers(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {name: part for key, entry in value.items() for name, part in numbers(entry, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {name: part for key, entry in enumerate(value) for name, part in numbers(entry, f"{path}.{key}").items()}
    return {path: value}


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_committed_numbers_come_out_again():
    benchmark = module(ROOT / "benchmarks" / "exact.py")
    known, run = benchmark.recipes(), RUNS[0]
    found = numbers(benchmark.measured({name: known[name] for name in by_name(run)}, seed=run["seed"]))
    for name, value in numbers(run).items():
        close = pytest.approx(value, rel=1e-8, abs=1e-11) if isinstance(value, float) else value
        assert found[name] == close, name


def test_the_pages_table_is_made_of_them():
    table = module(ROOT / "docs" / "hooks" / "measured.py").exact().splitlines()
    assert "@measured exact" in (ROOT / "docs" / "exact-oracle.md").read_text()
    for line, name in zip(table[2:], by_name(RUNS[0]), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == f"`{name}`"
        middle = sorted(by_name(run)[name]["relative_variance"] for run in RUNS)[1]
        assert float(cells[5]) == pytest.approx(middle, rel=0.01)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"seed {run['seed']}")
def test_what_the_page_says_of_the_rows_holds_for_every_seed(run):
    rows = by_name(run)
    same = [rows[name] for name in ("opd", "vopd", FULL)]
    assert all(row["token_bias"]["relative"] == 0.0 for row in same)
    assert len({row["sequence_bias"]["relative"] for row in same}) == 1
    assert same[0]["sequence_bias"]["relative"] > 0.1
    assert rows["opd discount=1"]["sequence_bias"]["relative"] == 0.0 < rows["opd discount=1"]["token_bias"]["relative"]
    assert rows["opd discount=1"]["variance"] > 1.2 * rows["opd"]["variance"]
    assert rows[FULL]["variance"] < rows["vopd"]["variance"] < rows["opd"]["variance"]
    assert all(rows[name]["token_bias"]["relative"] > 0.1 for name in ("gkd", "tropd", "opsd", "sft"))


def test_the_bound_on_entries_is_what_turns_opsd_around():
    recipes = [opsd(), opsd(entry_cap=None), opsd(entry_cap=None, temperature=1.0, top_p=1.0)]
    for seed in range(3):
        _, bounded, free, plain = compare(recipes, size=Size(vocab=4, length=2), seed=seed).rows
        assert bounded.token_bias.cosine < 0.0 < free.token_bias.cosine
        assert plain.token_bias.cosine > 0.5
