"""A hook of the documentation's build: `@asynchronous speed` and `accuracy`, from benchmarks/results/asynchronous.json."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

from tutelage.tracking.comparison.paired import ByExample, paired_difference
from tutelage.tracking.wording import markdown_table

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "asynchronous.json"
ACCURACY, DIVERGENCE = "eval/greedy_accuracy_fraction", "eval/reverse_kl_nats"
_DIRECTIVE = re.compile(r"^@asynchronous (\w+)$", re.MULTILINE)
Row = Mapping[str, Any]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace each directive of a page."""
    return _DIRECTIVE.sub(lambda match: TABLES[match[1]](), markdown)


@cache
def read() -> dict[str, Any]:
    """The result; empty where nothing was measured yet."""
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}


def speed() -> str:
    """One row per staleness: the middle of the rounds, their ends, and what the rule says of the stages as they are in turn."""
    rows: Sequence[Row] = read().get("speed", [])
    if not at(rows, 0):
        return "Not measured yet."
    stages = {name: median(row["stages"][name] for row in at(rows, 0)) for name in rows[0]["stages"]}
    in_turn = median(row["seconds_per_step"] for row in at(rows, 0))
    lines: list[list[str]] = []
    for staleness in sorted({row["staleness"] for row in rows}):
        taken = [row["seconds_per_step"] for row in at(rows, staleness)]
        rule = max(*(stages.values() if staleness else (0.0,)), sum(stages.values()) / (staleness + 1))
        lines.append(
            [
                str(staleness),
                str(len(taken)),
                f"{median(taken):.2f} [{min(taken):.2f}, {max(taken):.2f}]",
                f"{in_turn / median(taken):.2f}",
                f"{rule:.2f}",
                *(f"{median(row['stages'][name] for row in at(rows, staleness)):.2f}" for name in STAGES),
            ]
        )
    return markdown_table(["staleness", "rounds", "seconds a step", "times as fast", "by the rule", *STAGES], lines)


STAGES = ("sampling", "scoring", "update")


def accuracy() -> str:
    """One row per staleness: means over seeds, and paired differences from the same seeds in turn."""
    rows: Sequence[Row] = read().get("accuracy", [])
    if not rows:
        return "Not measured yet."
    lines: list[list[str]] = []
    for staleness in sorted({row["staleness"] for row in rows}):
        here = at(rows, staleness)
        same = [row for row in at(rows, 0) if row["seed"] in {each["seed"] for each in here}]
        cells = [str(staleness), str(len(here))]
        for metric, show in ((ACCURACY, _percent), (DIVERGENCE, _nats)):
            cells.append(show(fmean(row["after"][metric][0] for row in here)))
            cells.append(_difference(same, here, metric) if staleness else "")
        cells.append(f"{fmean(row['after']['eval/mean_length_tokens'][0] for row in here):.1f}")
        lines.append(cells)
    return markdown_table(["staleness", "seeds", "greedy accuracy", "difference", "reverse KL", "difference", "length"], lines)


def _difference(first: Sequence[Row], second: Sequence[Row], metric: str) -> str:
    """Over the problems of all seeds, each with what both runs of its seed did on it."""
    found = paired_difference(_by_problem(first, metric), _by_problem(second, metric))
    low, high = found.interval
    scale, digits = (100.0, 1) if metric == ACCURACY else (1.0, 3)
    ends = f"{scale * found.difference:+.{digits}f} [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]"
    return f"**{ends}**" if found.clear else ends


def _by_problem(rows: Sequence[Row], metric: str) -> ByExample:
    found: dict[str, tuple[float, float]] = {}
    for row in rows:
        for place, entry in enumerate(row["prompts"][metric].split()):
            value, weight = entry.split(":")
            found[f"{row['seed']} {place}"] = (float(value), float(weight))
    return found


def at(rows: Sequence[Row], staleness: int) -> list[Row]:
    """The rows of one staleness."""
    return [row for row in rows if row["staleness"] == staleness]


def _percent(value: float) -> str:
    return f"{100.0 * value:.1f} %"


def _nats(value: float) -> str:
    return f"{value:.3f}"


TABLES = {"speed": speed, "accuracy": accuracy}
