"""Methods on a task with an environment: whose student talks with it, and that it is measured in conversation."""

from dataclasses import replace
from pathlib import Path

import pytest

from tutelage.errors import ConfigError
from tutelage.lab import tasks
from tutelage.lab.pretrain import Pretraining
from tutelage.lab.reproduction import ruler, worker
from tutelage.lab.reproduction.claim import Claim
from tutelage.lab.reproduction.jobs import Job, job_of
from tutelage.lab.reproduction.recipes import recipe_of
from tutelage.lab.reproduction.results import Result
from tutelage.lab.tasks import Budget
from tutelage.lab.tiny_models import Shape
from tutelage.rollouts.sources import DatasetRollouts, EnvironmentRollouts, TeacherRollouts

AGENT = tasks.get("agent")
MODELS = dict.fromkeys(AGENT.roles, "somewhere")
TINY = Pretraining(
    shape=Shape(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=16), num_steps=2, prompts_per_step=4, num_problems=32
)


def job(method: str, **knobs: object) -> Job:
    claim = Claim(method=method, task="agent", statement="", source="", baseline="none", knobs=knobs)
    return job_of(AGENT, method, seed=1, learning_rate=1e-3, budget=AGENT.budget, claim=claim)


@pytest.mark.parametrize(
    ("method", "knobs"), [("opd", {}), ("gkd", {"student_fraction": 1.0}), ("grpo", {"n": 4}), ("sod", {"n": 4})]
)
def test_a_student_that_writes_whole_responses_talks_with_the_environment(method, knobs):
    recipe, _ = recipe_of(job(method, **knobs), AGENT, MODELS)
    assert isinstance(recipe.rollouts, EnvironmentRollouts)
    assert recipe.rollouts.environment == "tutelage.lab.tasks.agent:world"
    assert recipe.rollouts.sampling.n == knobs.get("n", 1)
    assert recipe.rollouts.sampling.max_new_tokens == AGENT.max_response_tokens


def test_what_data_or_teacher_write_stays_as_it_is():
    assert isinstance(recipe_of(job("sft"), AGENT, MODELS)[0].rollouts, DatasetRollouts)
    assert isinstance(recipe_of(job("sft", source="teacher"), AGENT, MODELS)[0].rollouts, TeacherRollouts)


@pytest.mark.parametrize(("method", "knobs"), [("gkd", {"student_fraction": 0.5}), ("trb", {}), ("kat", {})])
def test_a_student_that_would_write_the_worlds_part_itself_is_refused(method, knobs):
    with pytest.raises(ConfigError, match="write both sides"):
        recipe_of(job(method, **knobs), AGENT, MODELS)


def test_without_an_environment_nothing_changes():
    assert recipe_of(job("opd"), replace(AGENT, environment=None), MODELS)[0].rollouts.kind == "student"


def test_a_whole_run_is_trained_and_measured_in_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    budget = Budget(num_prompts=8, num_held_out=8, num_steps=2, prompts_per_step=4)
    tiny = replace(AGENT, name="tiny_agent", teachers={"teacher": TINY}, student=TINY, budget=budget)
    monkeypatch.setattr(tasks, "TASKS", {**tasks.TASKS, "tiny_agent": tiny})
    made = replace(job("sod", n=2), task="tiny_agent", budget=budget)
    asked = list[str]()
    measured = ruler.evaluate

    def noting(config):
        asked.append(config.recipe.rollouts.kind)
        return measured(config)

    monkeypatch.setattr(ruler, "evaluate", noting)
    result = Result.of_json(worker.answer({"job": made.as_json()})["result"])
    assert result.failed is None
    assert result.curve is not None
    assert set(asked) == {"environment"}
    end = result.curve.end
    assert 0 < end.trained <= end.tokens
