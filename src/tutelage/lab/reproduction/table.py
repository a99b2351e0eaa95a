"""The rows for a terminal."""

from collections.abc import Sequence
from statistics import fmean

from tutelage.lab.reproduction.rows import Row
from tutelage.lab.reproduction.verdict import t_interval

_HEAD = ("method", "task", "metric", "ours", "baseline", "", "difference", "seeds", "verdict")
DIRECTIONS = {"higher": "above", "lower": "below", "no_worse": "no worse than"}
"""What a claim says of ours against the baseline, in words."""


def table(rows: Sequence[Row]) -> str:
    """Columns side by side, a line per row; below them what could not be measured, and why."""
    measured = [_cells(row) for row in rows if row.verdict is not None]
    absent = [
        f"{row.claim.method} on {row.claim.task}: {row.state}{f' ({row.note})' if row.note else ''}"
        for row in rows
        if row.verdict is None
    ]
    if not measured:
        return "\n".join(["No row is measured yet.", *absent])
    widths = [max(len(line[column]) for line in (_HEAD, *measured)) for column in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in (_HEAD, *measured)
    ]
    return "\n".join([*lines, *([""] if absent else []), *absent])


def mean_and_spread(row: Row, values: Sequence[float]) -> str:
    """Mean over the seeds, with half the width of its interval where there is one."""
    interval, shown = t_interval(values), row.metric.shown
    around = f" ± {shown(0.5 * (interval[1] - interval[0]))}" if interval else ""
    return f"{shown(fmean(values))}{around}"


def difference(row: Row) -> str:
    """The paired difference with its interval, signed."""
    if row.verdict is None:
        return ""
    shown = row.metric.shown
    told = f"{'+' if row.verdict.difference >= 0 else ''}{shown(row.verdict.difference)}"
    ends = row.verdict.interval
    return told if ends is None else f"{told} [{shown(ends[0])}, {shown(ends[1])}]"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.claim.method,
        row.claim.task,
        row.metric.title,
        mean_and_spread(row, row.ours),
        mean_and_spread(row, row.baseline),
        row.claim.baseline,
        difference(row),
        str(len(row.seeds)),
        row.verdict.word if row.verdict else row.state,
    )
