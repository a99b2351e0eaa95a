"""A real pretrained pair: a story teller of 260,032 parameters teaches a student of 39,584, by four recipes.

    python examples/stories.py --data-folder DATA --output runs/stories

DATA (by default $TUTELAGE_DATA) holds models/stories260K with its samples, and models/stories_student_40K. The student reads
the first sentence of a story and goes on for 64 tokens. Two distances to the teacher, in nats per token, are measured before
and after on stories that no recipe trains on: the reverse KL on what the student writes itself, and the forward KL on what the
teacher wrote.
"""

import argparse
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage import recipes
from tutelage.data import DataSource
from tutelage.evaluation import EvaluationSettings
from tutelage.models import ModelSource
from tutelage.recipes import Recipe
from tutelage.run import RunConfig, train
from tutelage.training.settings import CheckpointSettings, LoggingSettings, OptimiserSettings, TrainingSettings

MAX_NEW_TOKENS = 64
HELD_OUT = 60
STORY_ENDS = (1, 2)
"""Both models end a story with <s>, as they were trained to; the tokenizer's own end of sequence, </s>, they never write."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A recipe with what it is run with here."""

    recipe: Callable[[str], Recipe]
    learning_rate: float
    prompts_per_step: int = 32


CHOICES = {
    "sft": Choice(
        recipe=lambda teacher: recipes.sft(teacher, source="teacher", n=4, max_new_tokens=MAX_NEW_TOKENS),
        learning_rate=1e-3,
        prompts_per_step=8,
    ),
    "gkd": Choice(recipe=lambda teacher: recipes.gkd(teacher, max_new_tokens=MAX_NEW_TOKENS), learning_rate=3e-3),
    "gkd beta=1 lambda=1": Choice(
        recipe=lambda teacher: recipes.gkd(teacher, beta=1.0, student_fraction=1.0, max_new_tokens=MAX_NEW_TOKENS),
        learning_rate=3e-3,
    ),
    "opd": Choice(recipe=lambda teacher: recipes.opd(teacher, n=1, max_new_tokens=MAX_NEW_TOKENS), learning_rate=3e-4),
}
"""Every step trains on 32 responses: one each to 32 prompts, and for sft four that the teacher wrote to each of 8. The learning
rates are those of four with which 100 updates bring both distances together lowest on other stories (benchmarks/stories.py)."""

MEASURES = (
    "eval/reverse_kl_nats",
    "eval/teacher_text_forward_kl_nats",
    "eval/student_entropy_nats",
    "eval/repetition_fraction",
)


def split_story(row: dict[str, Any]) -> dict[str, Any] | None:
    """First sentence as the prompt, the rest as the teacher's response; none where the story breaks off before that."""
    found = re.match(r"(.*?[.!?]\"?) (.+)", row["text"], flags=re.DOTALL)
    if found is None:
        return None
    ending = "stop" if row["ended"] else "length"
    return {"id": f"story-{row['id']}", "prompt": found[1], "response": found[2], "finish_reason": ending}


def write_stories(samples: Path, folder: Path) -> tuple[Path, Path]:
    """The stories to train on, and the last ones of the file, which are held out."""
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.jsonl", folder / "held_out.jsonl"
    for path, part in zip(paths, (rows[:-HELD_OUT], rows[-HELD_OUT:]), strict=True):
        path.write_text("".join(json.dumps(story) + "\n" for row in part if (story := split_story(row))))
    return paths


def configure(name: str, *, data_folder: Path, output: Path, num_steps: int, seed: int) -> RunConfig:
    """A run of one recipe."""
    models, choice = data_folder / "models", CHOICES[name]
    prompts, held_out = write_stories(models / "stories260K" / "samples_t1.jsonl", output)
    return RunConfig(
        recipe=choice.recipe(str(models / "stories260K")),
        student=ModelSource(path=str(models / "stories_student_40K"), stop_token_ids=STORY_ENDS),
        data=DataSource(path=str(prompts)),
        evaluation_data=DataSource(path=str(held_out)),
        evaluation=EvaluationSettings(greedy=False, samples=8, every=0, max_new_tokens=MAX_NEW_TOKENS),
        optimiser=OptimiserSettings(learning_rate=choice.learning_rate),
        training=TrainingSettings(num_steps=num_steps, prompts_per_step=choice.prompts_per_step),
        checkpoints=CheckpointSettings(every=0),
        logging=LoggingSettings(statistics_every=10),
        output=str(output / f"{name.replace(' ', '-')}-seed-{seed}"),
        seed=seed,
    )


def run(config: RunConfig, *, name: str) -> dict[str, Any]:
    """Train, and give the figures: each before and after as value, lower and upper end of its 95 % interval over stories."""
    began = time.process_time()
    result = train(config)
    seconds = time.process_time() - began
    first, last = (result.evaluations[step] for step in (min(result.evaluations), max(result.evaluations)))
    return {
        "recipe": name,
        "seed": config.seed,
        "num_steps": config.training.num_steps,
        "learning_rate": config.optimiser.learning_rate,
        "cpu_seconds": round(seconds, 1),
        "before": {measure: [first.metrics[measure], *first.intervals[measure]] for measure in MEASURES},
        "after": {measure: [last.metrics[measure], *last.intervals[measure]] for measure in MEASURES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("TUTELAGE_DATA")
    parser.add_argument("--data-folder", type=Path, default=folder, required=folder is None)
    parser.add_argument("--output", type=Path, default=Path("runs/stories"))
    parser.add_argument("--recipes", nargs="+", choices=CHOICES, default=list(CHOICES), metavar="NAME")
    parser.add_argument("--num-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # these models are too small for more
    common = {name: getattr(arguments, name) for name in ("data_folder", "output", "num_steps", "seed")}
    runs = [run(configure(name, **common), name=name) for name in arguments.recipes]
    for found in runs:
        print(f"{found['recipe']}: {found['cpu_seconds']:.0f} s of one core")
        for measure in MEASURES:
            print(f"  {measure:<36} {found['before'][measure][0]:.3f} -> {found['after'][measure][0]:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
