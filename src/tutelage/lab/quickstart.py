"""The tour: a teacher and a student made on the spot, distillation beside supervised training, and one report of both."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from tutelage.data import DataSource
from tutelage.errors import CheckpointError
from tutelage.evaluation import EvaluationResult, EvaluationSettings
from tutelage.lab.pretrain import Pretraining, write_problems
from tutelage.lab.tasks import ACCURACY, HELD_OUT_SEED, Split, Task, chain, make, seed_of
from tutelage.models import ModelSource
from tutelage.recipes import Recipe
from tutelage.recipes.baselines import sft
from tutelage.recipes.white_box import gkd
from tutelage.run.api import Result, evaluate, train
from tutelage.run.config import RunConfig
from tutelage.tracking.report import write_report
from tutelage.training.settings import CheckpointSettings, LoggingSettings, OptimiserSettings, TrainingSettings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quickstart:
    """Sizes of the tour; the defaults take minutes on two CPU cores."""

    teacher: Pretraining = chain.TEACHER
    student: Pretraining = chain.STUDENT
    """The cold start: just enough supervised training that the student writes the format."""
    num_prompts: int = 128
    """Problems that the student is distilled on; both methods read the same ones."""
    num_held_out: int = 256
    """Problems that everybody is evaluated on and nobody is trained on."""
    num_steps: int = 600
    """Optimiser steps of each method."""
    prompts_per_step: int = 32
    learning_rate: float = 3e-3
    """Peak, of both methods."""
    evaluate_every: int = 100
    """Optimiser steps between evaluations; 0 evaluates only before and after."""
    output: str = ""
    """New or empty folder; an empty name takes the first free one of `runs/quickstart`, `runs/quickstart-2`, ..."""
    fresh: bool = False
    """Make teacher and student again even if they are in the cache."""
    seed: int = 0
    """Of the models, the prompts and the runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of the result: a model and its accuracy on the held-out problems."""

    name: str
    accuracy: float
    """Greedy, in 0..1."""
    interval: tuple[float, float]
    """Of 95 %, over the problems."""
    seconds: float
    """Wall time of making the model; 0 where it was found in the cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartResult:
    """What the tour found."""

    lines: tuple[Line, ...]
    """Teacher, student before, distilled student, supervised student."""
    report: Path
    """Both runs in one file."""
    student: Path
    """The distilled student in Hugging Face format."""
    folder: Path
    """Holds both runs, the prompts and the held-out problems."""
    seconds: float
    """Wall time of everything."""

    def table(self) -> str:
        """The lines for people."""
        width = max(len(line.name) for line in self.lines)
        rows = [
            f"{line.name:<{width}}  {line.accuracy:8.1%}  [{line.interval[0]:.1%}, {line.interval[1]:.1%}]".ljust(width + 28)
            + f"{line.seconds:5.0f} s"
            for line in self.lines
        ]
        return "\n".join([f"{'':<{width}}  accuracy on held-out problems, 95 % interval, time", *rows])


def quickstart(settings: Quickstart = Quickstart(), *, say: Callable[[str], None] = _LOG.info) -> QuickstartResult:
    """Make both models, distil, train the same student on the teacher's answers, compare.

    Args:
        settings: Sizes.
        say: Takes a line before each stage, for whoever waits.

    Raises:
        CheckpointError: The output folder is not empty, or something could not be written.
    """
    began, folder = perf_counter(), _output_folder(settings.output)
    task = replace(chain.TASK, teachers={"teacher": settings.teacher}, student=settings.student)
    say(f"Teacher: {settings.teacher.num_steps} steps on worked problems.")
    teacher = make(task, "teacher", seed=settings.seed, fresh=settings.fresh)
    say(f"Student: {settings.student.num_steps} steps, just enough to write the format.")
    student = make(task, "student", seed=settings.seed, fresh=settings.fresh)
    plan = _plan(settings, task, folder, student=student.folder, teacher=teacher.folder)
    teacher_result = evaluate(replace(plan, student=ModelSource(path=str(teacher.folder))))
    say(
        f"Distillation: {settings.num_steps} steps on {settings.num_prompts} prompts; the student writes, the teacher corrects."
    )
    distilled, distilled_seconds = _timed(replace(plan, output=str(folder / "distilled")))
    say("Supervised training of the same student on the teacher's answers to the same prompts.")
    supervised, supervised_seconds = _timed(
        replace(plan, recipe=_on_teacher_text(teacher.folder), output=str(folder / "supervised"))
    )
    return QuickstartResult(
        lines=(
            _line("teacher", teacher_result, teacher.seconds),
            _line("student before", distilled.evaluations[0], student.seconds),
            _line("distilled", distilled.evaluations[settings.num_steps], distilled_seconds),
            _line("trained on the teacher's answers", supervised.evaluations[settings.num_steps], supervised_seconds),
        ),
        report=write_report(distilled.folder, compare=[supervised.folder]),
        student=distilled.student,
        folder=folder,
        seconds=perf_counter() - began,
    )


def on_policy(teacher: Path) -> Recipe:
    """The default method: the student writes, and matches the teacher's whole distribution at each token it wrote."""
    return replace(
        gkd(str(teacher), beta=1.0, student_fraction=1.0, max_new_tokens=chain.MAX_RESPONSE_TOKENS), name="distilled"
    )


def _on_teacher_text(teacher: Path) -> Recipe:
    recipe = sft(str(teacher), source="teacher", max_new_tokens=chain.MAX_RESPONSE_TOKENS)
    return replace(recipe, name="supervised")


def _plan(settings: Quickstart, task: Task, folder: Path, *, student: Path, teacher: Path) -> RunConfig:
    """What both runs share."""
    folder.mkdir(parents=True, exist_ok=True)
    return RunConfig(
        recipe=on_policy(teacher),
        student=ModelSource(path=str(student)),
        data=_problems(folder / "prompts.jsonl", settings.num_prompts, seed=seed_of(task, "prompts", settings.seed)),
        evaluation_data=_problems(folder / "held_out.jsonl", settings.num_held_out, seed=HELD_OUT_SEED, split="held_out"),
        verifier=chain.VERIFIER,
        evaluation=EvaluationSettings(num_prompts=settings.num_held_out, every=settings.evaluate_every),
        optimiser=OptimiserSettings(learning_rate=settings.learning_rate),
        training=TrainingSettings(num_steps=settings.num_steps, prompts_per_step=settings.prompts_per_step),
        checkpoints=CheckpointSettings(every=0, keep=1),
        logging=LoggingSettings(statistics_every=5, rollouts_every=100),
        seed=settings.seed,
        device="cpu",
    )


def _problems(path: Path, count: int, *, seed: int, split: Split = "train") -> DataSource:
    return write_problems(path, chain.problems(count, seed=seed, split=split))


def _timed(config: RunConfig) -> tuple[Result, float]:
    began = perf_counter()
    return train(config), perf_counter() - began


def _line(name: str, result: EvaluationResult, seconds: float) -> Line:
    return Line(name=name, accuracy=result.metrics[ACCURACY], interval=result.intervals[ACCURACY], seconds=seconds)


def _output_folder(name: str) -> Path:
    """Where the tour writes to.

    Raises:
        CheckpointError: A folder was named that is not empty.
    """
    if not name:
        candidates = (Path("runs") / f"quickstart{suffix}" for suffix in ["", *(f"-{n}" for n in range(2, 1000))])
        return next(path for path in candidates if not path.exists())
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{name!r} exists and is not an empty folder; nothing was changed. Choose another --output.")
    return folder
