"""The runs of examples/stories.py over learning rates and seeds, each in a process of one thread.

The learning rates come first, on 60 stories that are neither trained on nor held out; the example keeps, for each recipe, the
one that leaves the smallest sum of both distances. The runs on the held-out stories follow:

    python benchmarks/stories.py grid --data-folder DATA --out benchmarks/results/stories-grid.json
    python benchmarks/stories.py runs --data-folder DATA --out benchmarks/results/stories.json
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tutelage.data import DataSource, load
from tutelage.run import RunConfig

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
GRID_STEPS, STEPS = 100, 300
SEEDS = (0, 1, 2)
VALIDATION = 60

Job = tuple[str, RunConfig]
Key = tuple[str, int, int, float]
"""Recipe, seed, steps and learning rate of a run."""


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stories_example", Path(__file__).parents[1] / "examples" / "stories.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the module of their types
    spec.loader.exec_module(module)
    return module


def on_validation(config: RunConfig) -> RunConfig:
    """The same run without a look at the held-out stories."""
    rest = len(load(config.data)) - VALIDATION
    return replace(config, data=replace(config.data, limit=rest), evaluation_data=DataSource(path=config.data.path, start=rest))


def grid(stories: ModuleType, data_folder: Path, output: Path) -> Iterator[Job]:
    for name, rate in product(stories.CHOICES, LEARNING_RATES):
        folder = output / str(rate)
        config = stories.configure(name, data_folder=data_folder, output=folder, num_steps=GRID_STEPS, seed=SEEDS[0])
        yield name, on_validation(replace(config, optimiser=replace(config.optimiser, learning_rate=rate)))


def runs(stories: ModuleType, data_folder: Path, output: Path) -> Iterator[Job]:
    for seed, name in product(SEEDS, stories.CHOICES):
        yield name, stories.configure(name, data_folder=data_folder, output=output, num_steps=STEPS, seed=seed)


def measure(name: str, config: RunConfig) -> dict[str, Any]:
    torch.set_num_threads(1)
    return example().run(config, name=name)


def key(name: str, config: RunConfig) -> Key:
    return name, config.seed, config.training.num_steps, config.optimiser.learning_rate


def read(path: Path) -> dict[Key, dict[str, Any]]:
    """Runs that are already there, so that an interrupted benchmark goes on."""
    found = json.loads(path.read_text())["runs"] if path.is_file() else []
    return {(run["recipe"], run["seed"], run["num_steps"], run["learning_rate"]): run for run in found}


def write(path: Path, found: dict[Key, dict[str, Any]], jobs: Sequence[Job]) -> None:
    ordered = [found[key(*job)] for job in jobs if key(*job) in found]
    path.write_text(json.dumps({"torch": torch.__version__.split("+")[0], "threads": 1, "runs": ordered}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("grid", "runs"))
    parser.add_argument("--data-folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recipes", nargs="+", help="only these")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        jobs = list((grid if arguments.which == "grid" else runs)(example(), arguments.data_folder, Path(folder)))
        found = read(arguments.out)
        wanted = [job for job in jobs if key(*job) not in found and job[0] in (arguments.recipes or [job[0]])]
        waiting = {pool.submit(measure, *job): key(*job) for job in wanted}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            write(arguments.out, found, jobs)


if __name__ == "__main__":
    main()
