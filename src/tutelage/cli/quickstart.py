"""`tutelage quickstart`: the tour, with nothing to prepare and nothing to download."""

import argparse
import json
import sys
from dataclasses import asdict

from tutelage.lab.quickstart import Quickstart, quickstart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--output", default="", help="new or empty folder (default: the first free runs/quickstart...)")
    parser.add_argument("--fresh", action="store_true", help="make teacher and student again even if they are in the cache")
    parser.add_argument("--seed", type=int, default=0, help="of the models, the prompts and the runs (default 0)")
    parser.add_argument(
        "--num-steps", type=int, default=Quickstart().num_steps, help="optimiser steps of each method (default %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make, distil, compare, and say where everything lies."""
    result = quickstart(
        Quickstart(output=arguments.output, fresh=arguments.fresh, seed=arguments.seed, num_steps=arguments.num_steps),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if arguments.json:
        print(json.dumps(asdict(result), default=str))
        return 0
    print(f"{result.table()}\n{result.seconds:.0f} s in all\n\nstudent  {result.student}\nreport   {result.report}")
    return 0
