"""The quickstart over several seeds: does distillation beat supervised training on the same prompts?

    python benchmarks/quickstart.py [--seeds 0 1 2] [--threads 1] [--cached] [--runs FOLDER] [--output quickstart.json]

Everything is made anew for each seed (teacher, student, prompts, draws); the held-out problems are the same. `--cached` takes
teachers and students that earlier tours made with the same settings and seed; they are the same to the bit, and their seconds
are 0. `--runs` keeps the run folders with their reports. The file holds what was measured and nothing else, and is written
again after each seed.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tutelage.lab.quickstart import Quickstart, quickstart
from tutelage.tracking.environment import describe


def measure(seed: int, runs: Path | None, *, cached: bool) -> dict[str, Any]:
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (runs or Path(scratch)) / f"seed-{seed}"
        result = quickstart(Quickstart(output=str(folder), fresh=not cached, seed=seed))
    print(f"seed {seed}\n{result.table()}\n{result.seconds:.0f} s", flush=True)
    lines = [asdict(line) for line in result.lines]
    return {"seed": seed, "seconds": result.seconds, "cpu_seconds": time.process_time() - began, "lines": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "quickstart.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = {key: value for key, value in asdict(Quickstart()).items() if key not in ("seed", "fresh", "output")}
    found: dict[str, Any] = {
        "threads": arguments.threads,
        "settings": settings,
        "environment": describe(seeds={"quickstart": arguments.seeds[0]}),
        "runs": [],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        found["runs"].append(measure(seed, arguments.runs, cached=arguments.cached))
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
