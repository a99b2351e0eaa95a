"""The models of a task, made once and kept."""

import hashlib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from tutelage.errors import ConfigError, nearest
from tutelage.lab.cache import kept
from tutelage.lab.pretrain import pretrain
from tutelage.lab.tasks.base import Task
from tutelage.lab.tasks.judging import greedy_accuracy
from tutelage.types import Example

HELD_OUT_SEED = 0
"""Held-out problems are the same in every comparison."""
_NUM_JUDGED = 128
"""Problems by which a model is judged that stops at an accuracy: held-out ones, drawn by its own seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A model on disk."""

    folder: Path
    """In Hugging Face format."""
    seconds: float
    """Wall time of making it; 0 where it was found in the cache."""


def model_of(task: Task, role: str, *, seed: int, fresh: bool = False) -> Path:
    """The folder of a task's model, made now or found from before.

    Args:
        task: What it learns.
        role: One of the task's roles.
        seed: Of the whole comparison; each role draws its own weights and lessons from it.
        fresh: Make it again even if it is there.

    Raises:
        ConfigError: The task has no such role.
        CheckpointError: The folder could not be written.
    """
    return make(task, role, seed=seed, fresh=fresh).folder


def make(task: Task, role: str, *, seed: int, fresh: bool = False) -> Made:
    """As `model_of`, with the time that it took."""
    if role not in task.roles:
        raise ConfigError(
            f"Task {task.name!r} has no model {role!r}{nearest(role, task.roles)}. Its models are {', '.join(task.roles)}."
        )
    settings, draw = task.roles[role], seed_of(task, role, seed)
    lessons = task.lessons(role, settings.num_problems, seed=draw)
    origin = {"task": task.name, "characters": task.characters, "settings": asdict(settings), "seed": draw}
    began, taken = perf_counter(), list[float]()

    def write(folder: Path) -> None:
        pretrain(
            folder,
            settings,
            lessons=lessons,
            characters=task.characters,
            max_response_tokens=task.max_response_tokens,
            seed=draw,
            name=f"{task.name}, {role}",
            accuracy_of=partial(greedy_accuracy, task=task, examples=task.problems(_NUM_JUDGED, seed=draw, split="held_out")),
        )
        taken.append(perf_counter() - began)

    folder = kept(f"{task.name}-{role}", {**origin, "lessons": _digest(lessons)}, write, fresh=fresh)
    return Made(folder=folder, seconds=sum(taken, 0.0))


def seed_of(task: Task, purpose: str, seed: int) -> int:
    """The seed of one purpose: each role, and `prompts`; so that nobody is trained twice on the same problems.

    Raises:
        ConfigError: There is no such purpose.
    """
    purposes = [*task.roles, "prompts"]
    if purpose not in purposes:
        raise ConfigError(f"Task {task.name!r} draws nothing for {purpose!r}{nearest(purpose, purposes)}.")
    return 1000 * seed + purposes.index(purpose)


def _digest(lessons: list[Example]) -> str:
    """Changes with any lesson, so that a model is never taken for one that learnt something else."""
    texts = "\n".join(f"{lesson.prompt}\t{lesson.solution}" for lesson in lessons)
    return hashlib.sha256(texts.encode()).hexdigest()
