from pathlib import Path

import pytest

from tutelage.errors import ConfigError
from tutelage.tracking import METRICS, registry
from tutelage.tracking.metrics_page import render
from tutelage.tracking.registry import FAMILIES, check, describe

SUFFIXES = {"nats": "_nats", "tokens": "_tokens", "fraction": "_fraction", "seconds": "_seconds"}
WITHOUT_SUFFIX = {"train/tokens", "train/rows", "train/seconds_per_step"}  # counts, and a time whose name says it already


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_says_what_it_is(metric):
    assert metric.title
    assert metric.meaning.endswith(".")
    assert metric.direction in ("up", "down", "none")
    assert metric.name.split("/")[0] in FAMILIES


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_the_unit_is_part_of_the_name(metric):
    assert metric.name in WITHOUT_SUFFIX or metric.name.endswith(SUFFIXES.get(metric.unit, ""))
    wrong = [unit for unit, suffix in SUFFIXES.items() if metric.name.endswith(suffix) and unit != metric.unit]
    assert not wrong


def test_every_name_that_the_package_logs_is_declared():
    source = Path(registry.__file__).parents[1]
    logged = {
        name
        for path in [*source.glob("diagnostics/*.py"), *source.glob("evaluation/*.py"), *source.glob("run/*.py")]
        for name in _quoted_metrics(path.read_text())
    }
    assert logged  # the search found something
    check(logged)


def _quoted_metrics(text: str) -> set[str]:
    families = tuple(f"{family}/" for family in FAMILIES)
    quoted = text.split('"')[1::2]
    return {name for name in quoted if name.startswith(families) and " " not in name and "{" not in name and "." not in name}


def test_a_term_gets_an_entry_of_its_own():
    metric = describe("term/outlier/loss_nats")
    assert metric.name == "term/outlier/loss_nats"
    assert metric.title == "Loss of outlier"
    assert metric.unit == "nats"


@pytest.mark.parametrize("name", ["term/a/b/loss_nats", "term//loss_nats", "term/*/loss_nats", "loss", ""])
def test_a_name_that_is_not_declared_is_refused(name):
    with pytest.raises(ConfigError, match="There is no metric"):
        check([name])


def test_the_refusal_names_the_nearest_metric():
    with pytest.raises(ConfigError, match="'signal/reverse_kl_nats'"):
        check(["signal/reverse_kl"])


def test_the_page_of_metrics_is_fresh():
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text("utf-8") == render(), "run: python -m tutelage.tracking.metrics_page > docs/metrics.md"


def test_the_page_of_metrics_has_a_row_for_each():
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == sorted(METRICS, key=lambda name: list(FAMILIES).index(name.split("/")[0]))
