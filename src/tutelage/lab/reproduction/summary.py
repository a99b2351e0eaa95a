"""`summary.json`: the rows in a few numbers each, for whoever shows them beside a method."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tutelage.lab.reproduction.results import SUMMARY
from tutelage.lab.reproduction.rows import Row
from tutelage.tracking.files import write_text


def write_summary(folder: Path, rows: Sequence[Row]) -> Path:
    """Write the summary of all rows beside their results.

    Raises:
        CheckpointError: It could not be written.
    """
    lines = [f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in summary(rows).items()]
    path = folder / SUMMARY
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def summary(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Method -> its measured rows, as plain values."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.verdict is not None:
            found.setdefault(row.claim.method, []).append(as_json(row))
    return found


def as_json(row: Row) -> dict[str, Any]:
    """A row as plain values; numbers are None where nothing was measured."""
    verdict = row.verdict
    return {
        "method": row.claim.method,
        "task": row.claim.task,
        "claim": row.claim.statement,
        "source": row.claim.source,
        "metric": row.claim.metric,
        "direction": row.claim.direction,
        "baseline": row.claim.baseline,
        "state": row.state,
        "note": row.note,
        "seeds": len(row.seeds),
        "ours": round(fmean(row.ours), 4) if row.ours else None,
        "baseline_value": round(fmean(row.baseline), 4) if row.baseline else None,
        "difference": round(verdict.difference, 4) if verdict else None,
        "interval": [round(end, 4) for end in verdict.interval] if verdict and verdict.interval else None,
        "verdict": verdict.word if verdict else None,
        "command": row.claim.command,
    }
