"""Every row of the table of docs/performance.md, through the code of `tutelage bench`.

    python benchmarks/performance.py [--rows head-float32 step-ragged] [--fresh] [--pairs 5]

Needs TRL for the comparisons: pip install "tutelage[peer]". A row that stands in the result already is left out unless --fresh
is given, so that an interrupted run can be continued; every finished row is written at once. One thread per side, one side at a
time.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch  # noqa: F401  # the description of the machine lists graphics cards only where it is imported

from tutelage.lab.bench import compare
from tutelage.lab.bench.processes import peer
from tutelage.lab.bench.settings import StepBench
from tutelage.lab.bench.tables import table
from tutelage.lab.bench.targets import ROWS, target_table
from tutelage.tracking.environment import describe


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure(name: str, *, pairs: int | None) -> dict[str, Any]:
    settings = ROWS[name] if pairs is None else replace(ROWS[name], pairs=pairs)
    if isinstance(settings, StepBench):
        result = compare.step(settings, say=say)
    else:
        result = (compare.growth if name == "growth" else compare.head)(settings, say=say)
    return result | {"environment": describe(seeds={"bench": settings.seed})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--fresh", action="store_true", help="measure rows again that stand in the result")
    parser.add_argument("--pairs", type=int, help="counted repetitions of each side, for all rows")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "performance.json")
    arguments = parser.parse_args()
    if peer() is None:
        say(compare.PEER_IS_MISSING)
    found: dict[str, Any] = json.loads(arguments.output.read_text())["rows"] if arguments.output.exists() else {}
    for name in arguments.rows:
        if name in found and not arguments.fresh:
            say(f"{name}: measured before")
            continue
        say(f"{name}:")
        found[name] = measure(name, pairs=arguments.pairs)
        ordered = {row: found[row] for row in ROWS if row in found}
        arguments.output.write_text(json.dumps({"threads": 1, "rows": ordered}, indent=1) + "\n")
        print(f"{name}\n{table(found[name])}\n", flush=True)
    print(target_table(found))


if __name__ == "__main__":
    main()
