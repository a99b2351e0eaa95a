"""`tutelage reproduce`: published claims measured on small tasks, in one table."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tutelage.lab.reproduction import Reproduction, Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.description = (
        "Run every method beside its baseline on the task that its paper's claim maps to, and say which claims hold. Results "
        "are kept, one file per run; what is there is not run again."
    )
    parser.add_argument("--method", metavar="NAME", help="only the rows of this method")
    parser.add_argument("--task", metavar="NAME", help="only the rows on this task")
    parser.add_argument("--list", action="store_true", help="print the rows as they stand, and run nothing")
    parser.add_argument(
        "--quick", action="store_true", help="a few rows with short runs and two seeds, in a quarter of an hour"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="of every row (default 3; 2 with --quick)")
    parser.add_argument("--more-seeds", type=int, metavar="N", help="of the rows that are undecided with these (default 5)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once, of one thread each (default 1)")
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="of the results (default benchmarks/reproduction, or runs/... with --quick)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing and print the table."""
    from tutelage.lab.reproduction import as_json, reproduce, table

    asked = _asked(arguments)
    if arguments.list:
        rows = [asked.table.row(claim) for claim in asked.claims]
    else:
        rows = reproduce(asked, say=lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps([as_json(row) for row in rows], indent=1) if arguments.json else table(rows) + _legend(asked, rows))
    return 0


def _asked(arguments: argparse.Namespace) -> "Reproduction":
    from tutelage.lab.reproduction import FOLDER, QUICK, QUICK_FOLDER, Reproduction, chosen, quick_claims

    asked = Reproduction(jobs=arguments.jobs, retry=arguments.retry, folder=arguments.results or FOLDER)
    if arguments.quick:
        folder = arguments.results or QUICK_FOLDER
        asked = replace(asked, claims=quick_claims(), scale=QUICK, folder=folder, seeds=2, more_seeds=2)
    if arguments.method or arguments.task:
        asked = replace(asked, claims=chosen(method=arguments.method, task=arguments.task))
    if arguments.seeds is not None:
        asked = replace(asked, seeds=arguments.seeds, more_seeds=max(arguments.seeds, asked.more_seeds))
    return asked if arguments.more_seeds is None else replace(asked, more_seeds=arguments.more_seeds)


def _legend(asked: "Reproduction", rows: "list[Row]") -> str:
    """What the table does not say itself."""
    missing = asked.table.missing_rates(asked.claims) or asked.table.missing(asked.claims, range(asked.seeds))
    told = ["", "Means over seeds ± half a 95 % interval; the verdict is by the interval of the paired difference."]
    if missing:
        told.append(f"{len(missing)} runs are to be made next: the same command without --list makes them.")
    if any(row.state == "failed" for row in rows):
        told.append("What failed is run again with --retry.")
    return "\n".join(["", *told])
