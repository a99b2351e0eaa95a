"""From a job to the recipe that runs: models put in, the small world's sizes, and what kind of estimator it is."""

from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import Any, Literal

from tutelage import recipes
from tutelage.errors import ConfigError
from tutelage.lab.exact.fitting import fit, rewritten
from tutelage.lab.reproduction.jobs import Job
from tutelage.lab.tasks import Task
from tutelage.objectives import CrossEntropy, SampledKL, ScoreFunction
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import (
    AnyRollouts,
    DatasetRollouts,
    EnvironmentRollouts,
    MixedRollouts,
    Sampling,
    StudentRollouts,
    TeacherRollouts,
)
from tutelage.types.parts import parts

Kind = Literal["exact", "score function", "supervised"]
"""How the gradient is estimated, which decides the learning rates that are tried."""

COMMON = ("n = 1 unless a row says otherwise", "max_new_tokens = the task's longest response")
"""What every method has turned, where it has the knob."""
_STUDENT, _TEACHER = "student", "teacher"
_SPECIAL_IDS = 3
"""Of a task's tokenizer besides its characters: unknown, padding, end."""


def recipe_of(job: Job, task: Task, models: Mapping[str, str]) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe of a job, and what was fitted to the small world besides its knobs.

    Args:
        job: The run.
        task: Its task.
        models: Folder of each of the task's roles.

    Raises:
        ConfigError: The method does not exist or has no such knob, or its student cannot talk with the task's environment.
    """
    entry = recipes.get(job.method)
    asked = signature(entry.make).parameters
    experts = {role: models[role] for role in task.teachers}
    given: dict[str, Any] = {
        "n": 1,
        "max_new_tokens": task.max_response_tokens,
        "teacher": next(iter(experts.values())),
        "experts": experts,
        "reference": models[_STUDENT],
    }
    filled = {name: value for name, value in given.items() if name in asked}
    recipe, notes = fit(
        entry.recipe(**{**filled, **job.knobs}), vocab=len(task.characters) + _SPECIAL_IDS, most_n=job.responses_per_step
    )
    if task.environment is not None:
        recipe = replace(recipe, rollouts=_talking(recipe.rollouts, task.environment))
    return _reading(recipe, task.context_template), notes


def prompts_per_step(job: Job, recipe: Recipe) -> int:
    """Such that the student writes as many responses per step as with every other method.

    Raises:
        ConfigError: The group is larger than the step.
    """
    group = max((part.n for part in parts(recipe.rollouts) if isinstance(part, Sampling)), default=1)
    if group > job.responses_per_step:
        raise ConfigError(
            f"{job.method!r} writes {group} responses per prompt, and a step on {job.task!r} has {job.responses_per_step}. "
            "Turn its n down."
        )
    return job.responses_per_step // group


def kind_of(recipe: Recipe) -> Kind:
    """Read off the terms: a sampled reward in any of them decides, else likelihood of text alone is supervised."""
    signals = [term.signal for term in recipe.terms]
    if any(isinstance(signal, ScoreFunction | SampledKL) for signal in signals):
        return "score function"
    return "supervised" if all(isinstance(signal, CrossEntropy) for signal in signals) else "exact"


def _talking(source: AnyRollouts, environment: str) -> AnyRollouts:
    """The source in which the student's turns are replied to; what teacher or data write stays as it is."""
    match source:
        case StudentRollouts(sampling=sampling, horizon=None) | MixedRollouts(sampling=sampling, student_fraction=1.0):
            return EnvironmentRollouts(environment=environment, sampling=sampling)
        case DatasetRollouts() | TeacherRollouts() | EnvironmentRollouts() | MixedRollouts(student_fraction=0.0):
            return source
        case _:
            raise ConfigError(
                f"The task has an environment, and with rollouts of kind {source.kind!r}, these settings, nobody asks it: the "
                "student would write both sides. Take a method whose student writes whole responses (gkd: student_fraction 1)."
            )


def _reading(recipe: Recipe, template: str) -> Recipe:
    """The recipe whose contexts are worded as the task's models have learnt to read them."""

    def worded(owner: Any, name: str, old: Any) -> Any:
        return template if name == "plain_template" else old

    return rewritten(recipe, worded)
