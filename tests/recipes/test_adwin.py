"""Adaptive windows: the probe's gradients against the objective itself, and whole runs."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import Pair, make_pair

from tutelage.controllers import AlignedWindow
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, make, moments
from tutelage.recipes import Recipe, opd
from tutelage.recipes.horizons import adwin
from tutelage.rollouts.sources import StudentRollouts
from tutelage.run import api
from tutelage.run.assembly import assemble, prompt_order
from tutelage.run.instruments import RunInstruments
from tutelage.tracking import events
from tutelage.training.measuring import select
from tutelage.types import StepBatch
from tutelage.types.schedules import Controlled


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def small(pair: Pair, **knobs: float) -> Recipe:
    return adwin(str(pair.teacher), **{"n": 2, "max_new_tokens": 6, **knobs})


def test_a_window_beyond_the_longest_response_is_opd():
    world = make(Size(vocab=3, length=3, end=True), seed=1)
    found, plain = moments(world, adwin(n=1, first=512)), moments(world, opd(n=1))
    torch.testing.assert_close(found.gradient, plain.gradient, rtol=0.0, atol=0.0)
    assert found.variance == plain.variance


def test_such_a_run_is_that_of_opd_until_the_window_moves_and_its_alignment_is_one(pair, tmp_path):
    data = {"evaluation_data": None}
    wide = pair.config("opd", tmp_path / "wide", **data, recipe=small(pair, first=6, every=3, high=1.0))
    plain = pair.config("opd", tmp_path / "plain", **data)
    one, other = api.train(wide), api.train(plain)
    weights, expected = (load_file(result.student / "model.safetensors") for result in (one, other))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    found = {event.step: event.metrics for event in events.read(one.folder / "metrics.jsonl") if event.kind == "train"}
    assert found[3]["control/alignment"] == pytest.approx(1.0, abs=1e-6)
    assert "control/alignment" not in found[2]


def test_the_windows_gradient_and_that_of_the_rest_add_up_to_the_whole_one(pair, tmp_path):
    """As sums over tokens: the loss is a mean, so each part counts by its tokens."""
    config = pair.config("opd", tmp_path / "run", evaluation_data=None, recipe=small(pair, first=6))
    assembled = assemble(config)
    window, whole = RunInstruments(config, assembled).gradients(8, cuts=(2, 6), step=1)
    rollouts = assembled.writer.write(prompt_order(config, assembled)(1), step=1)
    taught = assembled.teaching.score(StepBatch.of(rollouts))
    rest = (taught.batch.position >= 2).nonzero().squeeze(-1)
    outside, inside = len(rest), taught.batch.num_rows - len(rest)
    assert min(outside, inside) > 0
    suffix = assembled.learner.gradient(taught.batch.select(rest), select(taught.signals, rest), step=1)
    for begin, end, both in zip(window, suffix, whole, strict=True):
        torch.testing.assert_close(inside * begin + outside * end, (inside + outside) * both, rtol=1e-4, atol=1e-5)
    assert max(float(each.abs().max()) for each in suffix) > 1e-3


def test_a_probe_changes_neither_weights_nor_optimiser(pair, tmp_path):
    config = pair.config("opd", tmp_path / "run", evaluation_data=None, recipe=small(pair))
    assembled = assemble(config)
    before = {name: value.clone() for name, value in assembled.student.trainable_state().items()}
    RunInstruments(config, assembled).gradients(8, cuts=(2, 6), step=0)
    assert all(torch.equal(before[name], value) for name, value in assembled.student.trainable_state().items())
    assert not assembled.learner.optimiser.state
    assert all(parameter.grad is None for parameter in assembled.student.trainable_parameters())


def test_a_controlled_setting_without_a_controller_is_refused():
    recipe = adwin("teacher")
    with pytest.raises(ConfigError, match="exactly one controller"):
        replace(recipe, controllers={})
    with pytest.raises(ConfigError, match="exactly one controller"):
        replace(recipe, controllers={"a": AlignedWindow(), "b": AlignedWindow()})
    with pytest.raises(ConfigError, match="exactly one controller"):
        replace(opd("teacher"), controllers={"a": AlignedWindow()})


def test_defaults_are_those_of_the_card():
    recipe = adwin("teacher")
    assert isinstance(recipe.rollouts, StudentRollouts)
    assert recipe.rollouts.horizon == Controlled(name="horizon", start=512.0)
    assert recipe.terms == opd().terms
