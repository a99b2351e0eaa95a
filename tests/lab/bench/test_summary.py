"""Figures, targets and tables from readings."""

import pytest

from tutelage.lab.bench.summary import Spread, of, ratio
from tutelage.lab.bench.tables import table
from tutelage.lab.bench.targets import ROWS, TARGETS, target_table


def readings(*seconds: float, extra: float | None = 100.0) -> list[dict[str, object]]:
    return [{"cpu_seconds": value, "extra_mib": extra, "peak_mib": extra} for value in seconds]


def head(*, ours: float, products: float, peers: float | None) -> dict[str, object]:
    sides = {"ours": {name: readings(ours, ours) for name in ("reverse_kl", "jensen_shannon", "three_terms")}}
    if peers is not None:
        sides["peer"] = {"reverse_kl": readings(peers, peers)}
    peer = "TRL 1" if peers is not None else None
    return {"bench": "head", "peer": peer, "products": readings(products, products), "readings": sides}


def test_a_ratio_is_taken_pair_by_pair():
    slow, fast = readings(3.0, 30.0, 9.0), readings(1.0, 10.0, 2.0)  # a machine that slowed down tenfold in between
    assert ratio(slow, fast) == Spread(median=3.0, lowest=3.0, highest=4.5)


def test_memory_that_nobody_told_has_no_figure():
    silent = readings(1.0, 2.0, extra=None)
    assert of(silent, "extra_mib") is None
    assert ratio(silent, readings(1.0, 2.0), "extra_mib") is None
    assert ratio(readings(1.0, 1.0), readings(1.0, 0.0)) is None


def test_the_table_of_a_head_has_both_sides_and_their_ratio():
    text = table(head(ours=2.0, products=1.6, peers=5.0))
    line = next(line for line in text.splitlines() if line.startswith("reverse_kl"))
    assert "1.25 [1.25, 1.25]" in line
    assert "2.5 [2.5, 2.5]" in line
    assert "TRL 1" in text
    assert "not installed" not in text


def test_without_the_peer_the_table_says_how_to_get_it():
    text = table(head(ours=2.0, products=1.6, peers=None))
    assert 'pip install "tutelage[peer]"' in text


def test_targets_that_were_not_measured_say_so():
    lines = target_table({}).splitlines()[2:]
    assert len(lines) == len(TARGETS)
    assert all("| not measured |" in line for line in lines)


@pytest.mark.parametrize(("ours", "verdict"), [(1.1, "yes"), (1.3, "**no**")])
def test_a_target_is_met_where_the_median_keeps_it(ours, verdict):
    lines = target_table({"head-float32": head(ours=ours, products=1.0, peers=None)}).splitlines()
    line = next(line for line in lines if "its four products" in line)
    assert line.endswith(f"| {ours:.2f} x | {ours:.2f} to {ours:.2f} | {ours / 1.25:.2f} | {verdict} |")
    assert any("TRL's kernel" in line and "not measured" in line for line in lines)  # the peer was not there


def test_growth_compares_the_most_rows_with_the_fewest():
    growth = [{"rows": 512, "readings": readings(1.0, 1.0)}, {"rows": 2048, "readings": readings(5.0, 5.0, extra=150.0)}]
    found = {target.what: target.measured({"growth": {"growth": growth}}) for target in TARGETS if target.row == "growth"}
    memory, time = found.values()
    assert memory is not None
    assert memory.median == 1.5
    assert time is not None
    assert time.median == 1.25  # five times as long for four times as many


def test_every_target_has_a_row_that_is_measured():
    assert {target.row for target in TARGETS} == set(ROWS)
