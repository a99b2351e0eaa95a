"""What a result is found by, and the recipe that a job stands for."""

from dataclasses import replace

import pytest

from tutelage.errors import ConfigError
from tutelage.lab import tasks
from tutelage.lab.reproduction.claim import Claim
from tutelage.lab.reproduction.jobs import Job, job_of
from tutelage.lab.reproduction.recipes import kind_of, prompts_per_step, recipe_of
from tutelage.lab.tiny_models import make_tokenizer
from tutelage.recipes import gkd, opd, sft

TASK = tasks.get("chain")
MODELS = dict.fromkeys(TASK.roles, "somewhere")


def job(method: str, **knobs: object) -> Job:
    claim = Claim(method=method, task="chain", statement="", source="", baseline="none", knobs=knobs)
    return job_of(TASK, method, seed=1, learning_rate=1e-3, budget=TASK.budget, claim=claim)


def test_a_job_has_one_name_wherever_it_is_made():
    first = replace(job("opd"), knobs={"a": 1, "b": None})
    assert first.name == replace(first, knobs={"b": None, "a": 1}).name
    assert Job.of_json(first.as_json()) == first
    assert first.name.startswith("chain-opd-1-")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"learning_rate": 2e-3},
        {"knobs": {"n": 2}},
        {"task": "other"},
        {"method": "vopd"},
        {"models": "others"},
        {"budget": replace(TASK.budget, num_steps=7)},
    ],
)
def test_whatever_decides_a_run_decides_its_name(change):
    assert replace(job("opd"), **change).name != job("opd").name


def test_how_the_models_are_made_is_part_of_the_job():
    other = replace(TASK, student=replace(TASK.student, num_steps=TASK.student.num_steps + 1))
    assert job_of(other, "opd", seed=0, learning_rate=1e-3, budget=TASK.budget).models != job("opd").models


def test_a_job_of_another_version_is_refused():
    with pytest.raises(ConfigError, match="cannot be read"):
        Job.of_json({"task": "chain"})


def test_the_recipe_is_filled_in_and_fitted():
    recipe, notes = recipe_of(job("vopd", baseline_k=100), TASK, MODELS)
    ids = len(make_tokenizer(TASK.characters))
    assert recipe.rollouts.sampling.max_new_tokens == TASK.max_response_tokens
    assert recipe.rollouts.sampling.n == 1
    assert recipe.teacher.model == "somewhere"
    assert notes == (f"StudentKLBaseline.k lowered from 100 to {ids}",)


def test_contexts_are_worded_as_the_tasks_models_read_them():
    task = replace(TASK, context_template="[{context}]{prompt}")
    recipe, _ = recipe_of(job("opsd"), task, MODELS)
    assert recipe.teacher.context.plain_template == "[{context}]{prompt}"


def test_a_knob_that_the_recipe_lacks_is_refused():
    with pytest.raises(ConfigError, match="has no knob 'discuont'"):
        recipe_of(job("opd", discuont=1.0), TASK, MODELS)


@pytest.mark.parametrize("n", [1, 4, 8, 32])
def test_every_method_writes_the_same_number_of_responses(n):
    asked = job("opd", n=n)
    recipe, _ = recipe_of(asked, TASK, MODELS)
    assert prompts_per_step(asked, recipe) * n == asked.responses_per_step == TASK.budget.prompts_per_step


def test_a_group_larger_than_the_step_is_refused():
    with pytest.raises(ConfigError, match="Turn its n down"):
        prompts_per_step(job("opd"), opd("t", n=2 * TASK.budget.prompts_per_step))


def test_the_kind_of_estimator_is_read_off_the_terms():
    assert kind_of(opd("t")) == "score function"
    assert kind_of(gkd("t")) == "exact"
    assert kind_of(sft()) == "supervised"
    mixed = replace(gkd("t"), terms=(*gkd("t").terms, *opd("t").terms))
    assert kind_of(mixed) == "score function"
