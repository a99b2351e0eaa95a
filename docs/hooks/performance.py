"""A hook of the documentation's build: `@performance table`, `plot` and `machine`, from benchmarks/results/performance.json.

As long as that file lacks a row, its place says that it was not measured.
"""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from tutelage.lab.bench.targets import TARGETS, Target, target_table

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "performance.json"
_DIRECTIVE = re.compile(r"^@performance (\w+)$", re.MULTILINE)
_LABEL, _BARS, _LINE, _NOTE = 330, 360, 26, 70
"""Widths of the columns and height of a line of the plot, in pixels."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace each directive of a page."""
    return _DIRECTIVE.sub(lambda match: PARTS[match[1]](read()), markdown)


def read() -> dict[str, Any]:
    """The measured rows by name; empty where nothing was measured yet."""
    return json.loads(RESULT.read_text())["rows"] if RESULT.exists() else {}


def machine(results: dict[str, Any]) -> str:
    """What it was measured on, in a sentence."""
    if not results:
        return "No result is committed yet."
    found = {_machine(row) for row in results.values()}
    peers = {row["peer"] for row in results.values() if row["peer"]}
    return f"Measured on {' and '.join(sorted(found))}{''.join(f', beside {peer}' for peer in sorted(peers))}."


def _machine(row: dict[str, Any]) -> str:
    made = row["environment"]
    hardware, packages = made["hardware"], made["packages"]
    return (
        f"{made['system']['machine']} with {hardware['cpus']} processors and {hardware['memory_gib']} GiB, "
        f"PyTorch {packages['torch'].split('+')[0]}, transformers {packages['transformers']}"
    )


def plot(results: dict[str, Any]) -> str:
    """How many times longer TRL takes, as bars with their range and the target, in SVG."""
    targets = [target for target in TARGETS if target.kind == "at least" and target.unit]
    measured = [found for target in targets if (found := target.measured(results)) is not None]
    if not measured:
        return "Not measured yet."
    longest = max([target.bound for target in targets] + [found.highest for found in measured])
    lines = [_bar(target, results, top=place * _LINE, scale=_BARS / longest) for place, target in enumerate(targets)]
    width, height = _LABEL + _BARS + _NOTE, _LINE * len(targets)
    body = "".join(lines)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Time of TRL over ours" font-size="13" '
        f'fill="currentColor" font-family="inherit">{body}</svg>'
    )


def _bar(target: Target, results: dict[str, Any], *, top: int, scale: float) -> str:
    """One line: label, bar, range, a mark at the target."""
    found, middle = target.measured(results), top + _LINE / 2
    label = f'<text x="{_LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(target.what)}</text>'
    mark = _stroke(_LABEL + scale * target.bound, top + 3, _LABEL + scale * target.bound, top + _LINE - 3, "3 2")
    if found is None:
        return f'{label}{mark}<text x="{_LABEL + 4}" y="{middle + 4}">not measured</text>'
    low, high, end = (_LABEL + scale * value for value in (found.lowest, found.highest, found.median))
    bar = f'<rect x="{_LABEL}" y="{top + 6}" width="{end - _LABEL:.1f}" height="{_LINE - 12}" fill="#009688"/>'
    number = f'<text x="{high + 6:.1f}" y="{middle + 4}">{found.median:.2f}</text>'
    return label + bar + _stroke(low, middle, high, middle) + mark + number


def _stroke(x1: float, y1: float, x2: float, y2: float, dashes: str = "none") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" stroke-dasharray="{dashes}"/>'


PARTS = {"table": target_table, "plot": plot, "machine": machine}
