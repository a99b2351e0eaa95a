"""What a task is: problems, who judges them, what its models learn first, and the one thing that it isolates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from tutelage.errors import ConfigError
from tutelage.lab.pretrain import Pretraining
from tutelage.types import Example
from tutelage.verifiers import AnyVerifier

Split = Literal["train", "held_out"]
"""Problems that are trained on, or problems that everybody is evaluated on and nobody is trained on."""

STUDENT, TEACHER = "student", "teacher"
"""Roles that models have; a task with several teachers gives them other names."""


@runtime_checkable
class Problems(Protocol):
    """Draws problems of one split."""

    def __call__(self, count: int, *, seed: int, split: Split = "train") -> list[Example]:
        """Different problems with their answers and whatever else the task's methods read; same seed, same problems.

        Splits never share a prompt, whatever the seeds.
        """
        ...


@runtime_checkable
class Lessons(Protocol):
    """Draws what a model is pretrained on."""

    def __call__(self, role: str, count: int, *, seed: int) -> list[Example]:
        """Prompts, each with the response in `solution` that the model of that role learns to write."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Sizes of one run on a task, so that full reverse KL takes about half a minute on one core."""

    num_prompts: int = 256
    """Problems that a student is distilled on; every method reads the same ones."""
    num_held_out: int = 256
    """Problems for the accuracy."""
    num_steps: int = 60
    """Optimiser steps."""
    prompts_per_step: int = 64
    responses_per_prompt: int = 1
    """Of methods that ask for no group; those that do divide `prompts_per_step` by their group's size."""

    def __post_init__(self) -> None:
        sizes = (self.num_prompts, self.num_held_out, self.num_steps, self.prompts_per_step, self.responses_per_prompt)
        if min(sizes) < 1:
            raise ConfigError(f"{self} is no budget: every size must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A small world in which one failure can be measured."""

    name: str
    isolates: str
    """What it isolates: the failure that some methods exist for, in one paragraph."""
    claim: str
    """Which published claims it stands for, with arXiv ids."""
    characters: str
    """The alphabet, one token each."""
    max_response_tokens: int
    """The longest right response, its end of sequence included."""
    verifier: AnyVerifier
    """For training and for evaluation."""
    problems: Problems
    """What students are distilled on and everybody is evaluated on."""
    lessons: Lessons
    """What models learn before anything else."""
    teachers: Mapping[str, Pretraining]
    """By role. Where there are several, the roles are the `teacher_id` of the examples that each is for."""
    student: Pretraining
    """The cold start: enough that the student writes the format, and room to improve."""
    budget: Budget = Budget()
    """Of one run."""
    learning_rate_scale: float = 1.0
    """What the learning rates that are tried here are multiplied by, compared with other tasks: less than 1 where one step at
    those would undo what the student knows."""
    slices: Callable[[Example], str] | None = None
    """The class of a problem, where accuracy is to be told apart by class."""
    environment: str | None = None
    """What the student talks with, as `package.module:function`; none where a response is one turn."""
    context_template: str = "{context}{prompt}"
    """How the models of the task have learnt to read a context before a plain-text prompt; for a context's `plain_template`."""

    def __post_init__(self) -> None:
        if STUDENT in self.teachers or not self.teachers:
            raise ConfigError(f"Task {self.name!r} needs at least one teacher, and none of the name {STUDENT!r}.")
        if self.learning_rate_scale <= 0.0:
            raise ConfigError(f"Task {self.name!r} scales learning rates by {self.learning_rate_scale}, which is not above 0.")

    @property
    def roles(self) -> Mapping[str, Pretraining]:
        """Every model of the task, the teachers first."""
        return {**self.teachers, STUDENT: self.student}
