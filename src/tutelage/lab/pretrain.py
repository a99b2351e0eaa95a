"""Teachers and cold-started students: random weights, then supervised training on worked solutions."""

import json
import logging
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tutelage.data import DataSource
from tutelage.errors import ConfigError
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import ModelSource
from tutelage.recipes import Recipe
from tutelage.recipes.baselines import sft
from tutelage.run.api import train
from tutelage.run.config import RunConfig
from tutelage.tracking import RunFolder
from tutelage.training import checkpoint
from tutelage.training.settings import CheckpointSettings, LoggingSettings, OptimiserSettings, TrainingSettings
from tutelage.types import Example

_LOG = logging.getLogger(__name__)

_COLUMNS = ("id", "prompt", "answer", "solution", "privileged_context", "teacher_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretraining:
    """A model and how it learns; the same values, lessons and seed give the same weights on the same machine."""

    shape: Shape
    num_steps: int
    """Optimiser steps."""
    prompts_per_step: int = 32
    """Worked problems in one optimiser step."""
    num_problems: int = 8192
    """Worked problems in all."""
    learning_rate: float = 3e-3
    """Peak; linear warm-up, then a cosine."""
    accuracy: float | None = None
    """Where to stop, in 0..1: a checkpoint where the accuracy passes this value, or the one before it if that is nearer. Small
    models find an arithmetic rule within a few dozen steps, sooner or later by their seed: after a given number of steps some
    have it and others do not. None keeps the last one."""
    check_every: int = 10
    """Optimiser steps between these checkpoints."""

    def __post_init__(self) -> None:
        if self.accuracy is not None and not 0.0 <= self.accuracy <= 1.0:
            raise ConfigError(f"Pretraining stops at an accuracy in 0..1, got {self.accuracy!r}.")


def pretrain(
    folder: Path,
    settings: Pretraining,
    *,
    lessons: Sequence[Example],
    characters: str,
    max_response_tokens: int,
    seed: int,
    name: str,
    accuracy_of: Callable[[Path], float] | None = None,
) -> None:
    """Write a model that has learnt from worked problems, in Hugging Face format.

    Args:
        folder: Where to.
        settings: The model and its training.
        lessons: Worked problems, each with the response to learn in `solution`.
        characters: The alphabet of prompts and responses.
        max_response_tokens: Longer responses are cut.
        seed: Of the weights and of the order of the lessons.
        name: Shown as progress goes on.
        accuracy_of: Judges a model's folder, where the settings name an accuracy.

    Raises:
        ConfigError: The settings name an accuracy and nobody judges.
    """
    if settings.accuracy is not None and accuracy_of is None:
        raise ConfigError(f"Pretraining of {name!r} is to stop at an accuracy of {settings.accuracy}, and nobody judges it.")
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        work = Path(scratch)
        initial = make_model(work / "initial", tokenizer=make_tokenizer(characters), shape=settings.shape, seed=seed)
        data = write_problems(work / "lessons.jsonl", lessons)
        recipe = replace(sft(column="solution", max_new_tokens=max_response_tokens), name=name)
        result = train(_run_config(settings, recipe, initial, data, work / "run", seed))
        found = result.student
        if settings.accuracy is not None and accuracy_of is not None:
            saved = checkpoint.whole(RunFolder.open_existing(result.folder).checkpoints)
            found = _nearest(settings.accuracy, [each.student for each in saved], accuracy_of, name=name)
        shutil.copytree(found, folder, dirs_exist_ok=True)


def write_problems(path: Path, examples: Sequence[Example]) -> DataSource:
    """Put problems into a file that runs can read; what an example lacks is left out."""
    rows = (
        {**row.extra, **{name: getattr(row, name) for name in _COLUMNS if getattr(row, name) is not None}} for row in examples
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSource(path=str(path))


def _nearest(wanted: float, models: Sequence[Path], accuracy_of: Callable[[Path], float], *, name: str) -> Path:
    """Found by halving, as if accuracy only rose: a few models are judged and not all."""
    judge = cache(accuracy_of)
    first = bisect_left(models, wanted, key=judge)
    if first == len(models):
        _LOG.warning(
            "%s was to stop at an accuracy of %g and ended at %g: it has not found the rule within its steps.",
            name,
            wanted,
            judge(models[-1]),
        )
    return min(models[max(first - 1, 0) : first + 1], key=lambda model: abs(judge(model) - wanted))


def _run_config(settings: Pretraining, recipe: Recipe, initial: Path, data: DataSource, output: Path, seed: int) -> RunConfig:
    steps = settings.num_steps
    return RunConfig(
        recipe=recipe,
        student=ModelSource(path=str(initial)),
        data=data,
        optimiser=OptimiserSettings(learning_rate=settings.learning_rate),
        training=TrainingSettings(num_steps=steps, prompts_per_step=settings.prompts_per_step),
        checkpoints=CheckpointSettings(every=0, keep=1)
        if settings.accuracy is None
        else CheckpointSettings(every=settings.check_every, keep=steps),
        logging=LoggingSettings(statistics_every=steps, rollouts_every=0),
        output=str(output),
        seed=seed,
        device="cpu",
    )
