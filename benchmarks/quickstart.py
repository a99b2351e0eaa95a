"""The quickstart over several seeds: does distillation beat supervised training on the same prompts?

    python benchmarks/quickstart.py [--seeds 0 1 2] [--threads 1] [--output benchmarks/results/quickstart.json]

Everything is made anew for each seed (teacher, student, prompts, draws); the held-out problems are the same. The file holds
what was measured and nothing else.
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


def measure(seed: int) -> dict[str, Any]:
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = quickstart(Quickstart(output=folder, fresh=True, seed=seed))
    print(f"seed {seed}\n{result.table()}\n{result.seconds:.0f} s", flush=True)
    lines = [asdict(line) for line in result.lines]
    return {"seed": seed, "seconds": result.seconds, "cpu_seconds": time.process_time() - began, "lines": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "quickstart.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    runs = [measure(seed) for seed in arguments.seeds]
    settings = {key: value for key, value in asdict(Quickstart()).items() if key not in ("seed", "fresh", "output")}
    found = {
        "threads": arguments.threads,
        "settings": settings,
        "environment": describe(seeds={"quickstart": arguments.seeds[0]}),
        "runs": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
