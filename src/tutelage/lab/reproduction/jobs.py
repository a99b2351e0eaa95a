"""One run of the table as a value: everything that decides it, and the name under which its result is kept."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tutelage.errors import ConfigError
from tutelage.lab.reproduction.claim import Claim, Knob, OfResponse, OfRun
from tutelage.lab.reproduction.claims import SETUPS
from tutelage.lab.tasks import Budget, Task

VERSION = 1
"""Raised by hand when a change of the code changes what runs measure: results of other versions are not read."""

TEACHER_SEED = 0
"""Teachers are shared by all seeds; a seed decides the student's cold start, the prompts and all draws of the run."""
VALIDATION_SEED = 100
"""Of the runs that choose the learning rates; no row is measured on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A run, and by its digest the file that holds what came out."""

    task: str
    method: str
    knobs: Mapping[str, bool | int | float | str | None]
    """Turned away from the method's defaults, as numbers."""
    seed: int
    learning_rate: float
    budget: Budget
    models: str
    """Digest of how the task's models are made, so that no result outlives them."""

    @property
    def name(self) -> str:
        """Of the file, without its ending; the same in every process and on every machine."""
        text = json.dumps({"version": VERSION, **self.as_json()}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.task}-{self.method}-{self.seed}-{digest}"

    @property
    def responses_per_step(self) -> int:
        """The same for every method of a task."""
        return self.budget.prompts_per_step * self.budget.responses_per_prompt

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "knobs": dict(self.knobs)}

    @staticmethod
    def of_json(content: Mapping[str, Any]) -> "Job":
        """The job that `as_json` wrote.

        Raises:
            ConfigError: The values are no job.
        """
        try:
            return Job(**{**content, "budget": Budget(**content["budget"])})
        except (TypeError, KeyError) as error:
            raise ConfigError(
                f"A job of the reproduction cannot be read: {error}. Remove the result and run it again."
            ) from error


def job_of(
    task: Task,
    method: str,
    *,
    seed: int,
    learning_rate: float,
    budget: Budget,
    claim: Claim | None = None,
) -> Job:
    """The run of a method on a task.

    Args:
        task: Where.
        method: Its canonical name.
        seed: Of student, prompts and draws.
        learning_rate: Peak.
        budget: The task's own, or a smaller one.
        claim: Whose knobs are turned as well; None for baselines.
    """
    turned = {**SETUPS.get(method, {}), **(claim.knobs if claim is not None else {})}
    return Job(
        task=task.name,
        method=method,
        knobs={name: resolved(value, task, budget) for name, value in turned.items()},
        seed=seed,
        learning_rate=learning_rate,
        budget=budget,
        models=_digest(task),
    )


def resolved(value: Knob, task: Task, budget: Budget) -> bool | int | float | str | None:
    """A knob's number on a task."""
    match value:
        case OfRun(share=share):
            return max(round(share * budget.num_steps), 1)
        case OfResponse(share=share):
            return max(round(share * task.max_response_tokens), 1)
        case _:
            return value


def _digest(task: Task) -> str:
    origin = {
        "characters": task.characters,
        "max_response_tokens": task.max_response_tokens,
        "roles": {role: asdict(made) for role, made in task.roles.items()},
    }
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:12]
