"""One run of the table, from the job to its result: make or find the models, train, put the checkpoints to the ruler."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from time import perf_counter

from tutelage.errors import Interrupted, TutelageError
from tutelage.lab import tasks
from tutelage.lab.cache import cache_folder
from tutelage.lab.pretrain import write_problems
from tutelage.lab.reproduction.curves import Curve, Point
from tutelage.lab.reproduction.jobs import TEACHER_SEED, Job
from tutelage.lab.reproduction.recipes import kind_of, prompts_per_step, recipe_of
from tutelage.lab.reproduction.results import Result
from tutelage.lab.reproduction.ruler import COVERAGE_SAMPLES, Reading, read
from tutelage.lab.tasks import Task, model_of, seed_of
from tutelage.models import ModelSource
from tutelage.recipes import Recipe
from tutelage.run.api import train
from tutelage.run.config import RunConfig
from tutelage.tracking import RunFolder, events
from tutelage.training import checkpoint
from tutelage.training.settings import CheckpointSettings, LoggingSettings, OptimiserSettings, TrainingSettings

EVALUATIONS = 3
"""Evaluations after the first step; the last one at the end."""
_WARMUP_SHARE = 0.1


def execute(job: Job) -> Result:
    """Run a job; an error that this package raises on purpose becomes a failed result."""
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        work = Path(scratch)
        try:
            found = _execute(job, tasks.get(job.task), work)
        except Interrupted:
            raise
        except TutelageError as error:
            found = Result(job=job, failed=_nowhere(f"{type(error).__name__}: {error}", work))
    return replace(found, seconds=perf_counter() - began, packages=_packages())


def models_of(task: Task, *, seed: int) -> dict[str, Path]:
    """The folder of each of a task's models, made where it is not in the cache."""
    made = {role: model_of(task, role, seed=TEACHER_SEED) for role in task.teachers}
    return {**made, "student": model_of(task, "student", seed=seed)}


def _execute(job: Job, task: Task, work: Path) -> Result:
    models = models_of(task, seed=job.seed)
    recipe, notes = recipe_of(job, task, {role: str(folder) for role, folder in models.items()})
    ended = train(_config(job, task, recipe, models, work))
    teachers = {role: models[role] for role in task.teachers}
    before, teacher_accuracy = _references(job.task, job.seed, job.budget.num_held_out)
    found = checkpoint.whole(RunFolder.open_existing(ended.folder).checkpoints)
    readings = {
        each.step: read(
            each.student,
            task,
            teachers,
            work,
            num_held_out=job.budget.num_held_out,
            samples=COVERAGE_SAMPLES if each is found[-1] else 1,
        )
        for each in found
    }
    return Result(
        job=job,
        kind=kind_of(recipe),
        notes=notes,
        curve=Curve(points=(before.point(step=0, tokens=0, trained=0, seconds=0.0), *_points(ended.folder, readings))),
        teacher_accuracy=teacher_accuracy,
        correct=readings[found[-1].step].correct,
    )


def _config(job: Job, task: Task, recipe: Recipe, models: Mapping[str, Path], work: Path) -> RunConfig:
    budget = job.budget
    prompts = task.problems(budget.num_prompts, seed=seed_of(task, "prompts", job.seed))
    return RunConfig(
        recipe=recipe,
        student=ModelSource(path=str(models["student"])),
        data=write_problems(work / "prompts.jsonl", prompts),
        verifier=task.verifier,
        optimiser=OptimiserSettings(
            learning_rate=job.learning_rate, warmup_steps=max(round(_WARMUP_SHARE * budget.num_steps), 1)
        ),
        training=TrainingSettings(num_steps=budget.num_steps, prompts_per_step=prompts_per_step(job, recipe)),
        checkpoints=CheckpointSettings(every=-(-budget.num_steps // EVALUATIONS), keep=EVALUATIONS),
        logging=LoggingSettings(statistics_every=budget.num_steps, rollouts_every=0),
        output=str(work / "run"),
        seed=job.seed,
        device="cpu",
    )


@lru_cache(maxsize=8)
def _references(task_name: str, seed: int, num_held_out: int) -> tuple[Reading, float]:
    """The student before training, and the teachers' accuracy: the same for all runs of a task and seed."""
    task = tasks.get(task_name)
    models = models_of(task, seed=seed)
    teachers = {role: models[role] for role in task.teachers}
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        work = Path(scratch)
        before = read(models["student"], task, teachers, work, num_held_out=num_held_out)
        each = [
            read(folder, task, {role: folder}, work, num_held_out=num_held_out).accuracy for role, folder in teachers.items()
        ]
    return before, max(each)


def _points(folder: Path, readings: Mapping[int, Reading]) -> list[Point]:
    """The readings with what had been spent by then."""
    steps = [event for event in events.read(RunFolder.open_existing(folder).metrics_file) if event.kind == "train"]
    spent = [
        accumulate([event.metrics[name] for event in steps])
        for name in ("train/tokens", "train/rows", "train/seconds_per_step")
    ]
    return [
        readings[event.step].point(step=event.step, tokens=round(tokens), trained=round(trained), seconds=seconds)
        for event, tokens, trained, seconds in zip(steps, *spent, strict=True)
        if event.step in readings
    ]


def _nowhere(message: str, work: Path) -> str:
    """The message without this machine's folders."""
    for folder, name in ((work, "WORK"), (cache_folder(), "CACHE"), (Path.home(), "~"), (Path.cwd(), ".")):
        message = message.replace(f"{folder}{os.sep}", f"{name}{os.sep}")
    return message


def _packages() -> dict[str, str]:
    return {name: version(name).split("+")[0] for name in ("torch", "transformers")}
