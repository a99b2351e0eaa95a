"""Small tasks, made on the spot, each with one failure that some methods exist for."""

from collections.abc import Mapping

from tutelage.errors import ConfigError, nearest
from tutelage.lab.tasks import agent, chain, feedback, forks, format, long, mismatch, noisy_teacher, privileged, two_domains
from tutelage.lab.tasks.base import Budget, Split, Task
from tutelage.lab.tasks.judging import ACCURACY, greedy_accuracy, judged
from tutelage.lab.tasks.models import HELD_OUT_SEED, Made, make, model_of, seed_of

__all__ = [
    "ACCURACY",
    "HELD_OUT_SEED",
    "TASKS",
    "Budget",
    "Made",
    "Split",
    "Task",
    "get",
    "greedy_accuracy",
    "judged",
    "make",
    "model_of",
    "seed_of",
]

TASKS: Mapping[str, Task] = {
    module.TASK.name: module.TASK
    for module in (chain, noisy_teacher, mismatch, long, forks, feedback, privileged, two_domains, format, agent)
}
"""Every task by its name."""


def get(name: str) -> Task:
    """The task of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in TASKS:
        raise ConfigError(f"There is no task {name!r}{nearest(name, TASKS)}. The tasks are {', '.join(TASKS)}.")
    return TASKS[name]
