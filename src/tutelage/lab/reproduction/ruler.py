"""The common ruler: every student of a task is evaluated on the same problems against the task's own teacher.

A recipe's teacher may be the student itself, or absent; its divergences would say nothing beside another method's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from tutelage.evaluation import EvaluationResult, EvaluationSettings
from tutelage.evaluation.metrics import wilson_interval
from tutelage.lab.pretrain import write_problems
from tutelage.lab.reproduction.curves import Point
from tutelage.lab.tasks import HELD_OUT_SEED, Task, judged
from tutelage.run.api import evaluate
from tutelage.run.config import RunConfig
from tutelage.teachers.parts import ModelTeacher
from tutelage.types import Example

COVERAGE_SAMPLES = 8
"""Responses per problem behind the last coverage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the ruler found."""

    accuracy: float
    correct: str
    """One character per problem, `1` where the greedy response is right."""
    slices: Mapping[str, float]
    reverse_kl: float
    forward_kl: float
    entropy: float
    length: float
    coverage: float | None

    def point(self, *, step: int, tokens: int, trained: int, seconds: float) -> Point:
        """The reading as a point of a run's curve."""
        return Point(
            step=step,
            tokens=tokens,
            trained=trained,
            seconds=seconds,
            accuracy=self.accuracy,
            interval=wilson_interval(self.correct.count("1"), len(self.correct)),
            reverse_kl=self.reverse_kl,
            forward_kl=self.forward_kl,
            entropy=self.entropy,
            length=self.length,
            coverage=self.coverage,
            slices=self.slices,
        )


def read(
    student: Path, task: Task, teachers: Mapping[str, Path], work: Path, *, num_held_out: int, samples: int = 1
) -> Reading:
    """Evaluate a student.

    Args:
        student: Its folder.
        task: Its task.
        teachers: Folder of each of the task's teachers. Where there are several, each is the ruler for its own problems.
        work: Folder for the problems' files.
        num_held_out: Problems.
        samples: Responses per problem besides the greedy one; more than one also give the coverage.
    """
    examples = task.problems(num_held_out, seed=HELD_OUT_SEED, split="held_out")
    parts = [
        (chosen, evaluate(_config(student, teachers[role], task, chosen, work / f"held_out-{role}.jsonl", samples)))
        for role, chosen in _by_teacher(examples, list(teachers)).items()
    ]
    right = {example.id: mark for chosen, found in parts for example, mark in zip(chosen, _marks(found), strict=True)}
    tokens = [float(sum(len(rollout.response_ids) for rollout in found.rollouts)) for _, found in parts]
    problems = [float(len(chosen)) for chosen, _ in parts]

    def mean(name: str, weights: Sequence[float]) -> float:
        values = [found.metrics[name] for _, found in parts]
        return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)

    return Reading(
        accuracy=fmean(right.values()),
        correct="".join("1" if right[example.id] else "0" for example in examples),
        slices=_slices(task, examples, right),
        reverse_kl=mean("eval/reverse_kl_nats", tokens),
        forward_kl=mean("eval/forward_kl_nats", tokens),
        entropy=mean("eval/student_entropy_nats", tokens),
        length=mean("eval/mean_length_tokens", problems),
        coverage=mean("eval/pass_at_k_fraction", problems) if samples > 1 else None,
    )


def _config(student: Path, teacher: Path, task: Task, examples: Sequence[Example], file: Path, samples: int) -> RunConfig:
    evaluation = EvaluationSettings(num_prompts=0, samples=samples, written=0)
    config = judged(student, task, write_problems(file, examples), evaluation)
    return replace(config, recipe=replace(config.recipe, teacher=ModelTeacher(model=str(teacher))))


def _by_teacher(examples: Sequence[Example], roles: Sequence[str]) -> dict[str, list[Example]]:
    if len(roles) == 1:
        return {roles[0]: list(examples)}
    groups = {role: [example for example in examples if example.teacher_id == role] for role in roles}
    return {role: chosen for role, chosen in groups.items() if chosen}


def _marks(found: EvaluationResult) -> list[bool]:
    assert found.greedy is not None  # the settings ask for it
    return [bool(verdict.correct) for verdict in found.greedy.verdicts]


def _slices(task: Task, examples: Sequence[Example], right: Mapping[str, bool]) -> dict[str, float]:
    if task.slices is None:
        return {}
    groups: dict[str, list[bool]] = {}
    for example in examples:
        groups.setdefault(task.slices(example), []).append(right[example.id])
    return {name: fmean(marks) for name, marks in sorted(groups.items())}
