"""One whole run at a tiny size: models, training, the ruler, the file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tutelage.lab import tasks
from tutelage.lab.pretrain import Pretraining
from tutelage.lab.reproduction import worker
from tutelage.lab.reproduction.jobs import Job, job_of
from tutelage.lab.reproduction.results import Result, Results
from tutelage.lab.tasks import Budget
from tutelage.lab.tiny_models import Shape

TINY = Pretraining(
    shape=Shape(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=16), num_steps=2, prompts_per_step=4, num_problems=32
)
TASK = replace(
    tasks.get("chain"),
    name="tiny",
    teachers={"teacher": TINY},
    student=TINY,
    budget=Budget(num_prompts=8, num_held_out=12, num_steps=4, prompts_per_step=4),
    slices=lambda example: str(len(example.prompt)),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(tasks, "TASKS", {**tasks.TASKS, "tiny": TASK})
        yield TASK


def job(method: str = "gkd", **knobs: float) -> Job:
    made = job_of(TASK, method, seed=1, learning_rate=1e-3, budget=TASK.budget)
    return replace(made, knobs={**made.knobs, **knobs})


@pytest.fixture(scope="module")
def result(tiny) -> Result:
    return Result.of_json(worker.answer({"job": job().as_json()})["result"])


def test_the_curve_has_the_start_the_end_and_what_lies_between(result: Result):
    assert result.failed is None
    assert result.curve is not None
    assert [point.step for point in result.curve.points] == [0, 2, 4]
    tokens = [point.tokens for point in result.curve.points]
    assert tokens == sorted(set(tokens))
    assert [point.trained for point in result.curve.points] == tokens, "a divergence acts on every token that was written"
    assert 8 <= result.curve.points[1].tokens <= 8 * TASK.max_response_tokens


def test_what_is_recorded_hangs_together(result: Result):
    assert result.curve is not None
    end = result.curve.end
    assert len(result.correct) == TASK.budget.num_held_out
    assert end.accuracy == pytest.approx(result.correct.count("1") / len(result.correct), abs=1e-4)
    assert end.interval[0] <= end.accuracy <= end.interval[1]
    assert end.coverage is not None
    assert [point.coverage for point in result.curve.points[:-1]] == [None, None]
    assert min(end.reverse_kl, end.forward_kl, end.entropy) > 0.0
    assert 1.0 <= end.length <= TASK.max_response_tokens
    assert set(end.slices) == {str(len(e.prompt)) for e in TASK.problems(12, seed=tasks.HELD_OUT_SEED, split="held_out")}
    assert result.kind == "exact"


def test_the_file_is_small_and_names_no_folder_of_this_machine(result: Result, tmp_path: Path):
    results = Results(tmp_path)
    results.write(result)
    assert results.read(result.job) == result
    (path,) = results.files()
    assert path.stat().st_size < 6000
    assert str(Path.home()) not in path.read_text()
    assert json.loads(path.read_text())["job"]["knobs"] == {"beta": 1.0, "student_fraction": 1.0}


def test_a_run_that_cannot_go_on_is_a_result_that_says_why(tiny):
    failed = Result.of_json(worker.answer({"job": job("gkd", beta=2.0).as_json()})["result"])
    assert failed.curve is None
    assert failed.failed is not None
    assert failed.failed.startswith("ConfigError: beta must be in [0, 1]")


def test_the_same_student_is_measured_before_every_method(tiny, result: Result):
    other = Result.of_json(worker.answer({"job": job("opd").as_json()})["result"])
    assert other.curve is not None
    assert result.curve is not None
    assert other.curve.start == result.curve.start
    assert other.kind == "score function"


def test_a_message_can_ask_for_a_model_alone(tiny):
    assert worker.answer({"model": ["tiny", "student", 3]}) == {}
    assert worker.answer({}) == {}
