"""A tiny student, a tiny teacher and a few prompts on disk, and configurations that train on them in a second."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutelage import recipes
from tutelage.data import DataSource
from tutelage.evaluation import EvaluationSettings
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import ModelSource
from tutelage.recipes import Recipe, behaviour, horizons, replay
from tutelage.run.config import RunConfig
from tutelage.training.settings import CheckpointSettings, OptimiserSettings, TrainingSettings
from tutelage.types import Example
from tutelage.verifiers import ExactMatch

ALPHABET = "0123456789+=;ab\n"
MAX_NEW_TOKENS = 6

RECIPES: dict[str, Callable[[str], Recipe]] = {
    "sft": lambda teacher: recipes.sft(teacher, source="teacher", max_new_tokens=MAX_NEW_TOKENS),
    "gkd": lambda teacher: recipes.gkd(teacher, max_new_tokens=MAX_NEW_TOKENS),
    "opd": lambda teacher: recipes.opd(teacher, n=2, max_new_tokens=MAX_NEW_TOKENS),
    "vopd": lambda teacher: recipes.vopd(teacher, baseline_k=5, max_new_tokens=MAX_NEW_TOKENS),
    "tropd": lambda teacher: recipes.tropd(teacher, k=4, prefix_steps=3, n=2, max_new_tokens=MAX_NEW_TOKENS),
    "trb": lambda teacher: behaviour.trb(teacher, warmup_steps=3, k=5, max_new_tokens=MAX_NEW_TOKENS),
    "kat": lambda teacher: horizons.kat(
        teacher, window=2, count=1, min_fill=4, warmup_steps=1, k=5, max_new_tokens=MAX_NEW_TOKENS
    ),
    "adwin": lambda teacher: recipes.get("adwin").recipe(
        teacher=teacher, n=2, first=2, every=1, probe=4, max_new_tokens=MAX_NEW_TOKENS
    ),
    "effopd": lambda teacher: recipes.get("effopd").recipe(teacher=teacher, n=2, num_prompts=4, max_new_tokens=MAX_NEW_TOKENS),
    "lightning": lambda teacher: replay.lightning(teacher, n=2, max_new_tokens=MAX_NEW_TOKENS),
    "f_opd": lambda teacher: replay.f_opd(teacher, staleness=2, n=2, max_new_tokens=MAX_NEW_TOKENS),
    "brts": lambda teacher: behaviour.brts(teacher, k=5, overlap_k=2, max_new_tokens=MAX_NEW_TOKENS),
    "revisiting": lambda teacher: recipes.revisiting(
        teacher, k=4, skip_first=("1", ";", "absent"), n=2, max_new_tokens=MAX_NEW_TOKENS
    ),
    "scope": lambda teacher: recipes.scope(teacher, n=2, max_new_tokens=MAX_NEW_TOKENS),
    "sod": lambda teacher: recipes.sod(teacher, environment="tests.pairs:next_digit", n=2, max_new_tokens=2 * MAX_NEW_TOKENS),
    "mopd": lambda teacher: recipes.mopd({"sums": teacher}, default="sums", max_new_tokens=MAX_NEW_TOKENS),
    "opsd": lambda teacher: recipes.opsd(max_new_tokens=MAX_NEW_TOKENS, average_rate=0.1),
}
"""Every method, small enough for the alphabet and quick enough for a test."""


def next_digit(example: Example, turns: Sequence[str]) -> str | None:
    """An environment: the number of the student's next turn between semicolons; after three turns it is over."""
    return f";{len(turns)};" if len(turns) < 3 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Folders of two models with one tokenizer, and a file of prompts with answers, responses and solutions."""

    student: Path
    teacher: Path
    data: Path

    def config(self, name: str, output: Path, **changes: Any) -> RunConfig:
        """A short run of a method."""
        base = RunConfig(
            recipe=RECIPES[name](str(self.teacher)),
            student=ModelSource(path=str(self.student)),
            data=DataSource(path=str(self.data), limit=8),
            evaluation_data=DataSource(path=str(self.data), start=8),
            verifier=ExactMatch(),
            evaluation=EvaluationSettings(every=0, max_new_tokens=MAX_NEW_TOKENS),
            optimiser=OptimiserSettings(learning_rate=1e-2, warmup_steps=2),
            training=TrainingSettings(num_steps=4, prompts_per_step=4),
            checkpoints=CheckpointSettings(every=2),
            output=str(output),
        )
        return replace(base, **changes)


def make_pair(folder: Path) -> Pair:
    """Write the pair."""
    tokenizer = make_tokenizer(ALPHABET)
    rows = [
        {"id": f"sum-{i}", "prompt": f"{i}+{i}=", "answer": str(2 * i), "response": f"{2 * i};", "solution": f"{i}+{i}={2 * i}"}
        for i in range(12)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Pair(
        student=make_model(folder / "student", tokenizer=tokenizer, shape=Shape(hidden=16, initial_std=0.2), seed=1),
        teacher=make_model(folder / "teacher", tokenizer=tokenizer, shape=Shape(hidden=24, initial_std=0.4), seed=2),
        data=data,
    )
