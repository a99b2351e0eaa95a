"""Stages that work at the same time behind a score cache: the same bits whether scores were there before or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import Pair, make_pair

from tutelage.errors import Interrupted
from tutelage.run import api
from tutelage.run.config import RunConfig
from tutelage.scores import ScoreCache
from tutelage.teachers import Teacher
from tutelage.tracking import events
from tutelage.training.settings import AsynchronousSettings, TrainingSettings

STEPS, RESPONSES = 6, 8
"""Responses a step: four prompts with two each."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many responses the teacher was asked about in each of its forwards."""
    found, score = list[int](), Teacher.score

    def counting(self, batch, *, only=None):
        found.append(len(batch.rollouts if only is None else only))
        return score(self, batch, only=only)

    monkeypatch.setattr(Teacher, "score", counting)
    return found


def config(pair: Pair, output, *, staleness: int, scores: ScoreCache | None, recipe: str = "opd") -> RunConfig:
    return pair.config(
        recipe,
        output,
        evaluation_data=None,
        training=TrainingSettings(num_steps=STEPS, prompts_per_step=4),
        asynchronous=AsynchronousSettings(staleness=staleness),
        scores=scores,
    )


def same(one, other) -> bool:
    first, second = (load_file(result.student / "model.safetensors") for result in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def per_step(result, name: str) -> list[float]:
    return [event.metrics[name] for event in events.read(result.folder / "metrics.jsonl") if event.kind == "train"]


@pytest.mark.parametrize("staleness", [1, 2])
def test_a_cold_cache_a_warm_one_and_none_give_the_same_bits_and_a_warm_one_asks_nothing(pair, tmp_path, asked, staleness):
    scores = ScoreCache(folder=str(tmp_path / "scores"))
    none = api.train(config(pair, tmp_path / "none", staleness=staleness, scores=None))
    asked.clear()
    cold = api.train(config(pair, tmp_path / "cold", staleness=staleness, scores=scores))
    assert 0 < sum(asked) <= STEPS * RESPONSES
    assert per_step(cold, "cache/asked_responses") == asked, "each step counts its own, whenever it was scored"
    asked.clear()
    warm = api.train(config(pair, tmp_path / "warm", staleness=staleness, scores=scores))
    assert asked == []
    assert per_step(warm, "cache/found_fraction") == [1.0] * STEPS
    assert same(cold, warm)
    assert same(none, cold)


@pytest.mark.parametrize("staleness", [1, 2])
@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_run_ends_at_the_same_bits_and_asks_nothing_twice(pair, tmp_path, asked, monkeypatch, staleness, stop):
    whole = api.train(config(pair, tmp_path / "whole", staleness=staleness, scores=ScoreCache(folder=str(tmp_path / "one"))))
    once = sum(asked)
    asked.clear()
    made = config(pair, tmp_path / "parts", staleness=staleness, scores=ScoreCache(folder=str(tmp_path / "two")))
    with monkeypatch.context() as stopped:
        stopped.setattr(api, "stop_on_signals", _stopping_after(stop))
        with pytest.raises(Interrupted):
            api.train(made)
    before = sum(asked)
    assert before > 0
    resumed = api.resume(tmp_path / "parts")
    assert same(resumed, whole)
    assert sum(asked) == once, "what was scored ahead of the interruption lies in the cache"
    asked.clear()
    again = api.train(replace(made, output=str(tmp_path / "again")))
    assert asked == []
    assert same(again, whole)


def _stopping_after(steps: int):
    @contextmanager
    def stop() -> Iterator[object]:
        checks = iter(range(1000))
        yield lambda: next(checks) >= steps

    return stop
