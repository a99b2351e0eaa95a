"""What the lab's tasks are like: their models, what one plain run makes of the student, and the quantity that each isolates.

    python benchmarks/tasks.py [--tasks chain forks ...] [--seed 0] [--cached] [--learning-rate 0.002]

Each task's teachers and cold-started student are made anew, all are evaluated on the held-out problems, and the student is
distilled once by full reverse KL on its own text, at the learning rate times the task's own scale. `--cached` takes models of
earlier runs; their seconds are then those of the row before, or 0. Seconds are those that the processor worked, on one thread.
The file holds what was measured and nothing else; a task's row is replaced when it is measured again.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tasks_special import SPECIAL

from tutelage.evaluation import EvaluationResult, EvaluationSettings
from tutelage.lab import tasks
from tutelage.lab.pretrain import write_problems
from tutelage.lab.tasks import HELD_OUT_SEED, TASKS, Task, make, seed_of
from tutelage.models import ModelSource
from tutelage.recipes.white_box import gkd
from tutelage.run.api import evaluate, train
from tutelage.run.config import RunConfig
from tutelage.tracking.environment import describe
from tutelage.training.settings import CheckpointSettings, LoggingSettings, OptimiserSettings, TrainingSettings
from tutelage.types import Example

RESULT = Path(__file__).parent / "results" / "tasks.json"


def measure(task: Task, *, seed: int, cached: bool, learning_rate: float) -> dict[str, Any]:
    learning_rate *= task.learning_rate_scale
    models, seconds = dict[str, Path](), dict[str, float]()
    for role in task.roles:
        began = time.process_time()
        made = make(task, role, seed=seed, fresh=not cached)
        models[role], seconds[role] = made.folder, time.process_time() - began if made.seconds else 0.0
    held_out = task.problems(task.budget.num_held_out, seed=HELD_OUT_SEED, split="held_out")
    found: dict[str, Any] = {"task": task.name, "seed": seed, "budget": asdict(task.budget), "seconds": seconds}
    with tempfile.TemporaryDirectory() as scratch:
        if task.name != "agent":
            plan = _plan(task, models, held_out, Path(scratch), seed=seed, learning_rate=learning_rate)
            found["accuracy"] = {
                role: _accuracy(task, evaluate(replace(plan, student=ModelSource(path=str(folder)))))
                for role, folder in models.items()
            }
            began = time.process_time()
            result = train(plan)
            found["distilled"] = _accuracy(task, result.evaluations[task.budget.num_steps]) | {
                "seconds": time.process_time() - began,
                "learning_rate": learning_rate,
                "teacher": next(iter(task.teachers)),
            }
            models["distilled"] = result.student
        special = SPECIAL.get(task.name)
        found["special"] = special(task, models, held_out) if special else {}
    return found


def _plan(
    task: Task, models: dict[str, Path], held_out: Sequence[Example], folder: Path, *, seed: int, learning_rate: float
) -> RunConfig:
    budget, teacher = task.budget, models[next(iter(task.teachers))]
    prompts = task.problems(budget.num_prompts, seed=seed_of(task, "prompts", seed))
    return RunConfig(
        recipe=gkd(str(teacher), beta=1.0, student_fraction=1.0, max_new_tokens=task.max_response_tokens),
        student=ModelSource(path=str(models["student"])),
        data=write_problems(folder / "prompts.jsonl", prompts),
        evaluation_data=write_problems(folder / "held_out.jsonl", held_out),
        verifier=task.verifier,
        evaluation=EvaluationSettings(num_prompts=budget.num_held_out, every=0, at_start=False),
        optimiser=OptimiserSettings(learning_rate=learning_rate, warmup_steps=max(budget.num_steps // 10, 1)),
        training=TrainingSettings(num_steps=budget.num_steps, prompts_per_step=budget.prompts_per_step),
        checkpoints=CheckpointSettings(every=0, keep=1),
        logging=LoggingSettings(statistics_every=budget.num_steps, rollouts_every=0),
        output=str(folder / "run"),
        seed=seed,
        device="cpu",
    )


def _accuracy(task: Task, result: EvaluationResult) -> dict[str, Any]:
    """Greedy and sampled accuracy, over all problems and by class."""
    found: dict[str, Any] = {}
    for way, judged in (("greedy", result.greedy), ("sampled", result.sampled)):
        assert judged is not None
        groups = defaultdict[str, list[bool]](list)
        for rollout, verdict in zip(judged.rollouts, judged.verdicts, strict=True):
            groups["all"].append(bool(verdict.correct))
            if task.slices is not None:
                groups[task.slices(rollout.example)].append(bool(verdict.correct))
        found[way] = {name: sum(right) / len(right) for name, right in groups.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.tasks:
        task = tasks.get(name)
        row = measure(task, seed=arguments.seed, cached=arguments.cached, learning_rate=arguments.learning_rate)
        print(json.dumps(row), flush=True)
        kept = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else []
        rows = {run["task"]: run for run in kept}
        before = rows.get(name, {"seconds": {}})["seconds"]
        row["seconds"] = {role: taken or before.get(role, 0.0) for role, taken in row["seconds"].items()}
        rows[name] = row
        runs = [rows[known] for known in TASKS if known in rows]
        found = {"environment": describe(seeds={"tasks": arguments.seed}), "runs": runs}
        RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
