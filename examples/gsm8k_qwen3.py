"""Word problems through the real Qwen3 tokenizer and chat template, at its real vocabulary size, in little memory.

    python examples/gsm8k_qwen3.py --data-folder DATA --output runs/gsm8k

DATA (by default $TUTELAGE_DATA) holds gsm8k/, tokenizers/qwen3 and chat_templates/. Student and teacher are small models of
the Qwen3 family with random weights and 151,936 rows, made on the spot. They learn nothing worth knowing in a few updates: this
shows that the whole path works (conversations, the options of their template, a reference solution that only the teacher reads,
answers that are verified) and what it costs.
"""

import argparse
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from tutelage import recipes
from tutelage.data import DataSource
from tutelage.evaluation import EvaluationSettings
from tutelage.lab.tiny_models import Shape, make_model
from tutelage.models import ModelSource
from tutelage.recipes import Recipe
from tutelage.run import RunConfig, train
from tutelage.teachers.parts import ModelTeacher
from tutelage.training.settings import CheckpointSettings, OptimiserSettings, TrainingSettings
from tutelage.verifiers import MathVerifier

ROWS = 151_936
STUDENT = Shape(hidden=128, layers=4, heads=4, kv_heads=2, head_dim=32, intermediate=256, vocab_size=ROWS, max_context=2048)
TEACHER = replace(STUDENT, hidden=256, heads=8)
TEMPLATE_OPTIONS = {"enable_thinking": False}
HELD_OUT = 4

RECIPES: dict[str, Callable[[str, int], Recipe]] = {
    "gkd": lambda teacher, tokens: recipes.gkd(teacher, max_new_tokens=tokens),
    "opd": lambda teacher, tokens: recipes.opd(teacher, n=2, max_new_tokens=tokens),
    "tropd": lambda teacher, tokens: recipes.tropd(teacher, n=2, prefix_steps=4, max_new_tokens=tokens),
    "opsd": lambda teacher, tokens: recipes.opsd(max_new_tokens=tokens),  # teaches itself, so it needs no other model
}


def problem(row: dict[str, str]) -> dict[str, Any]:
    """A conversation, its answer, and its solution without the marks of a calculator."""
    solution = re.sub(r"<<.*?>>", "", row["answer"])
    question = [{"role": "user", "content": row["question"]}]
    return {"id": row["id"], "prompt": question, "answer": row["final"], "solution": solution, "response": solution}


def write_problems(data_folder: Path, output: Path, *, count: int) -> Path:
    """The first problems of the training set."""
    lines = (data_folder / "gsm8k" / "train.jsonl").read_text().splitlines()[:count]
    path = output / "problems.jsonl"
    path.write_text("".join(json.dumps(problem(json.loads(line))) + "\n" for line in lines))
    return path


def write_models(data_folder: Path, output: Path) -> tuple[Path, Path]:
    """A student and a teacher around the real tokenizer and chat template."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(data_folder / "tokenizers" / "qwen3")
    tokenizer.chat_template = (data_folder / "chat_templates" / "qwen3_30b.jinja").read_text()
    return (
        make_model(output / "student", tokenizer=tokenizer, shape=STUDENT, seed=1),
        make_model(output / "teacher", tokenizer=tokenizer, shape=TEACHER, seed=2),
    )


def with_template_options(recipe: Recipe) -> Recipe:
    """The teacher reads the template as the student does; one that is the student itself does so anyway."""
    if not isinstance(recipe.teacher, ModelTeacher):
        return recipe
    return replace(recipe, teacher=replace(recipe.teacher, template_options=TEMPLATE_OPTIONS))


def configure(
    name: str, *, student: Path, teacher: Path, problems: Path, output: Path, num_steps: int, max_new_tokens: int
) -> RunConfig:
    """A run of one recipe."""
    return RunConfig(
        recipe=with_template_options(RECIPES[name](str(teacher), max_new_tokens)),
        student=ModelSource(path=str(student), template_options=TEMPLATE_OPTIONS),
        data=DataSource(path=str(problems), start=HELD_OUT),
        evaluation_data=DataSource(path=str(problems), limit=HELD_OUT),
        verifier=MathVerifier(),
        evaluation=EvaluationSettings(greedy=False, every=0),
        optimiser=OptimiserSettings(learning_rate=1e-3, warmup_steps=2),
        training=TrainingSettings(num_steps=num_steps, prompts_per_step=4, microbatch_tokens=2048, head_chunk_mib=128),
        checkpoints=CheckpointSettings(every=0),
        output=str(output / name),
    )


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("TUTELAGE_DATA")
    parser.add_argument("--data-folder", type=Path, default=folder, required=folder is None)
    parser.add_argument("--output", type=Path, default=Path("runs/gsm8k"))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME")
    parser.add_argument("--num-steps", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    student, teacher = write_models(arguments.data_folder, arguments.output)
    problems = write_problems(arguments.data_folder, arguments.output, count=HELD_OUT + 64)
    runs = []
    for name in arguments.recipes:
        config = configure(
            name,
            student=student,
            teacher=teacher,
            problems=problems,
            output=arguments.output,
            num_steps=arguments.num_steps,
            max_new_tokens=arguments.max_new_tokens,
        )
        began = time.process_time()
        result = train(config)
        seconds = round(time.process_time() - began, 1)
        metrics = {step: found.metrics for step, found in result.evaluations.items()}
        runs.append({"recipe": name, "num_steps": arguments.num_steps, "cpu_seconds": seconds, "evaluations": metrics})
        print(f"{name}: {seconds:.0f} s of one core, report in {result.report}")
    figures = {"peak_memory_mib": round(peak_memory_mib()), "max_new_tokens": arguments.max_new_tokens, "runs": runs}
    print(f"peak memory: {figures['peak_memory_mib']} MiB")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
