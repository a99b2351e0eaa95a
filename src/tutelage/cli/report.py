"""`tutelage report RUN`: write a run's report again, alone or beside other runs; needs no torch."""

import argparse
import json
from pathlib import Path

from tutelage.tracking.report import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--compare", type=Path, nargs="+", default=[], metavar="RUN", help="other runs for the same plots")


def run(arguments: argparse.Namespace) -> int:
    """Write the report and say where it lies."""
    path = write_report(arguments.run, compare=arguments.compare)
    print(json.dumps({"report": str(path)}) if arguments.json else path)
    return 0
