"""What the documentation says of the estimators' table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.lab.exact.test_committed_result import ROOT, by_name, module, numbers

RUNS: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "results" / "estimators.json").read_text())["runs"]
every_seed = pytest.mark.parametrize("run", RUNS, ids=lambda run: f"seed {run['seed']}")
UNBIASED = (
    "score function",
    "with the KL baseline",
    "with the KL baseline, top 2",
    "exact",
    "k2",
    "k3, ratio differentiated",
    "two responses",
    "two responses, leave one out",
)


def test_the_committed_numbers_come_out_again(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = module(ROOT / "benchmarks" / "estimators.py")
    known, run = benchmark.recipes(), RUNS[0]
    quick = [name for name in by_name(run) if not name.startswith("two")]
    found = by_name(benchmark.measured({name: known[name] for name in quick}, seed=run["seed"]))
    assert list(known) == list(by_name(run))
    for name in quick:
        expected = numbers(by_name(run)[name])
        for path, value in numbers(found[name]).items():
            close = pytest.approx(value, rel=1e-7, abs=1e-10) if isinstance(value, float) else value
            assert expected[path] == close, (name, path)
    sys.modules.pop("exact", None)


@every_seed
def test_what_is_called_unbiased_is(run):
    rows = by_name(run)
    assert all(rows[name]["token_bias"]["relative"] == 0.0 for name in UNBIASED)
    assert all(
        rows[name]["sequence_bias"]["relative"] == 0.0 for name in rows if name.endswith("return to go") or "go, leave" in name
    )
    assert rows["k1"]["signal_to_noise"] < 1e-20 < rows["k1"]["variance"]


@every_seed
def test_what_is_said_of_other_gradients_holds(run):
    rows = by_name(run)
    for sampled, exact in (("k3", "forward KL, exact"), ("forward KL, corrected reward", "forward KL, exact")):
        assert rows[sampled]["token_bias"]["relative"] == pytest.approx(rows[exact]["token_bias"]["relative"])
    jsd, corrected = rows["Jensen-Shannon, exact"], rows["Jensen-Shannon, corrected reward"]
    assert jsd["token_bias"]["relative"] == pytest.approx(corrected["token_bias"]["relative"])
    warm, exact = rows["warm sampler, ratio"], rows["warm sampler, exact"]
    assert warm["token_bias"]["relative"] == pytest.approx(exact["token_bias"]["relative"])
    assert rows["k2"]["variance"] == pytest.approx(rows["score function"]["variance"])
    assert rows["k3, ratio differentiated"]["variance"] == pytest.approx(rows["score function"]["variance"])


@every_seed
def test_the_variances_are_in_the_order_that_the_page_gives(run):
    rows = by_name(run)
    plain = rows["score function"]["variance"]
    assert rows["exact"]["variance"] < rows["with the KL baseline"]["variance"] < plain < rows["return to go"]["variance"]
    assert rows["two responses"]["variance"] == pytest.approx(plain / 2)
    truncated, merged = rows["top 2, truncated"]["token_bias"], rows["top 2, rest merged"]["token_bias"]
    assert merged["relative"] < truncated["relative"]


def test_the_pages_table_is_made_of_them():
    table = module(Path(ROOT / "docs" / "hooks" / "measured.py")).estimators().splitlines()
    assert "@measured estimators" in (ROOT / "docs" / "estimators.md").read_text()
    assert [line.split("|")[1].strip() for line in table[2:]] == list(by_name(RUNS[0]))
    assert all(len(line.split("|")) == len(table[0].split("|")) for line in table)
