"""Teachers and cold-started students for the chain task: random weights, then supervised training on worked solutions."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tutelage.data import DataSource
from tutelage.lab import chain
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import ModelSource
from tutelage.recipes.baselines import sft
from tutelage.run.api import train
from tutelage.run.config import RunConfig
from tutelage.training.settings import CheckpointSettings, LoggingSettings, OptimiserSettings, TrainingSettings
from tutelage.types import Example


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretraining:
    """A model and how it learns the task; the same values give the same weights on the same machine."""

    shape: Shape
    num_steps: int
    """Optimiser steps."""
    prompts_per_step: int = 32
    """Worked problems in one optimiser step."""
    num_problems: int = 8192
    """Worked problems in all."""
    learning_rate: float = 3e-3
    """Peak; linear warm-up, then a cosine."""
    seed: int = 0
    """Of the weights, the problems and their order."""


def pretrain(folder: Path, settings: Pretraining, *, name: str) -> None:
    """Write a model that has learnt from worked problems, in Hugging Face format.

    Args:
        folder: Where to.
        settings: The model and its training.
        name: Shown as progress goes on.
    """
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        work = Path(scratch)
        initial = make_model(
            work / "initial", tokenizer=make_tokenizer(chain.CHARACTERS), shape=settings.shape, seed=settings.seed
        )
        data = write_problems(work / "problems.jsonl", chain.problems(settings.num_problems, seed=settings.seed))
        result = train(_run_config(settings, initial, data, work / "run", name))
        shutil.copytree(result.student, folder, dirs_exist_ok=True)


def write_problems(path: Path, examples: Sequence[Example]) -> DataSource:
    """Put problems into a file that runs can read."""
    rows = ({"id": row.id, "prompt": row.prompt, "answer": row.answer, "solution": row.solution} for row in examples)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSource(path=str(path))


def _run_config(settings: Pretraining, initial: Path, data: DataSource, output: Path, name: str) -> RunConfig:
    steps = settings.num_steps
    return RunConfig(
        recipe=replace(sft(column="solution", max_new_tokens=chain.MAX_RESPONSE_TOKENS), name=name),
        student=ModelSource(path=str(initial)),
        data=data,
        optimiser=OptimiserSettings(learning_rate=settings.learning_rate),
        training=TrainingSettings(num_steps=steps, prompts_per_step=settings.prompts_per_step),
        checkpoints=CheckpointSettings(every=0, keep=1),
        logging=LoggingSettings(statistics_every=steps, rollouts_every=0),
        output=str(output),
        seed=settings.seed,
        device="cpu",
    )
