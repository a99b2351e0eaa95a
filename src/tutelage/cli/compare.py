"""`tutelage compare RUN RUN ...`: runs side by side; needs no torch."""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.description = (
        "Lay runs side by side: the last evaluations with the paired interval of each difference from the first run, and the "
        "same held-out prompts token by token. A page with curves and coloured tokens is written as well."
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of at least two runs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: comparison.html in the first run)")
    parser.add_argument("--prompts", type=int, default=3, metavar="N", help="prompts shown in the terminal (default 3)")


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the page, and say what was found."""
    from tutelage.tracking.comparison import compare, describe
    from tutelage.tracking.comparison.page import write_comparison

    found = compare(arguments.runs)
    path = write_comparison(found, arguments.output or found.runs[0].folder.path / "comparison.html")
    if arguments.json:
        print(json.dumps({**found.as_json(), "page": str(path)}))
    else:
        print(f"{describe(found, num_prompts=max(arguments.prompts, 0))}\n\npage  {path}")
    return 0
