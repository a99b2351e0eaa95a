"""A hook of the documentation's build: `@serving table`, from benchmarks/results/serving.json."""

import json
import re
from pathlib import Path
from typing import Any

from tutelage.tracking.wording import markdown_table

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "serving.json"
_DIRECTIVE = re.compile(r"^@serving table$", re.MULTILINE)
_ROWS = {
    "score_sampled_seconds": "score the tokens themselves",
    "score_top_20_seconds": "score them with the 20 likeliest entries",
    "sample_seconds": "draw as many",
    "sync_seconds": "hand the student's weights over and check them",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the directive of a page."""
    return _DIRECTIVE.sub(lambda _: table(), markdown)


def table() -> str:
    """What was measured, with the machine that it was measured on; says so where nothing was."""
    if not RESULT.exists():
        return "No result is committed yet."
    result: dict[str, Any] = json.loads(RESULT.read_text())
    rows = [
        [title, f"{found['median']:.2f}", f"{found['lowest']:.2f} to {found['highest']:.2f}"]
        for name, title in _ROWS.items()
        for found in [result["seconds"][name]]
    ]
    hardware = result["environment"]["hardware"]
    said = (
        f"{result['sequences']} responses of {result['tokens']} tokens, a tiny model, float32, servers and client on one "
        f"machine with {hardware['cpus']} processors and {hardware['memory_gib']} GiB that other work kept busy at the time. "
        f"Largest difference to the local teacher {result['teacher_gap_nats']:.1e} nats, mean difference after handing weights "
        f"over {result['sync_gap_nats']:.1e}."
    )
    return f"{markdown_table(['', 'seconds, median', 'range'], rows)}\n\n{said}"
