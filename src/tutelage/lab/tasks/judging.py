"""How a task's verifier judges what a model writes by itself."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tutelage.data import DataSource
from tutelage.evaluation import EvaluationSettings
from tutelage.lab.pretrain import write_problems
from tutelage.lab.tasks.base import Task
from tutelage.models import ModelSource
from tutelage.objectives import CrossEntropy, Term
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import EnvironmentRollouts, Sampling, StudentRollouts
from tutelage.run.api import evaluate
from tutelage.run.config import RunConfig
from tutelage.types import Example

ACCURACY = "eval/greedy_accuracy_fraction"


def judged(model: Path, task: Task, problems: DataSource, evaluation: EvaluationSettings) -> RunConfig:
    """What `evaluate` needs to know of a model on problems of a task; without a teacher."""
    sampling = Sampling(max_new_tokens=task.max_response_tokens)
    return RunConfig(
        recipe=Recipe(
            name="judged",
            rollouts=StudentRollouts(sampling=sampling)
            if task.environment is None
            else EnvironmentRollouts(environment=task.environment, sampling=sampling),
            terms=(Term(name="cross_entropy", signal=CrossEntropy()),),
        ),
        student=ModelSource(path=str(model)),
        data=problems,
        verifier=task.verifier,
        evaluation=evaluation,
        device="cpu",
    )


def greedy_accuracy(model: Path, task: Task, examples: Sequence[Example]) -> float:
    """Share of some problems of a task to which a model's likeliest response is right, in 0..1."""
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        problems = write_problems(Path(scratch) / "problems.jsonl", examples)
        found = evaluate(judged(model, task, problems, EvaluationSettings(num_prompts=0, samples=0, written=0)))
    return found.metrics[ACCURACY]
