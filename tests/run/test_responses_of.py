"""Responses of a finished run, scored by another teacher: what nobody writes again, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import ALPHABET, Pair, make_pair

from tutelage import recipes
from tutelage.cli.main import main
from tutelage.data import DataSource
from tutelage.errors import CheckpointError, ConfigError, DataError
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.rollouts import CachedSampler
from tutelage.run import api
from tutelage.run.config import RunConfig
from tutelage.run.precomputing import precompute
from tutelage.scores import ScoreCache
from tutelage.scores.shards import list_shards, read_columns


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def finished(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run whose student wrote two responses to each of eight prompts before the first step."""
    made = pair.config("lightning", tmp_path_factory.mktemp("runs") / "first", evaluation_data=None)
    api.train(made)
    return made


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another teacher."""
    shape = Shape(hidden=24, initial_std=0.4)
    return make_model(tmp_path_factory.mktemp("models") / "other", tokenizer=make_tokenizer(ALPHABET), shape=shape, seed=9)


def taught_by(config: RunConfig, teacher: Path, output: Path, **changes) -> RunConfig:
    recipe = replace(config.recipe, teacher=replace(config.recipe.teacher, model=str(teacher)))
    return replace(config, recipe=recipe, output=str(output), **changes)


def keys(folder: Path) -> set[bytes]:
    return {key for shard in list_shards(folder / "shards-1") for key in read_columns(shard.path, ["key"])["key"]}


def test_another_teacher_scores_the_responses_of_a_finished_run_and_nobody_writes_them_again(
    pair, finished, other, tmp_path, monkeypatch, capsys
):
    away = tmp_path / "away"
    shutil.copytree(other, away)
    fresh = precompute(taught_by(finished, away, tmp_path / "unused", scores=ScoreCache(folder=str(tmp_path / "fresh"))))
    online = api.train(taught_by(finished, away, tmp_path / "online"))
    with monkeypatch.context() as patch:
        patch.setattr(CachedSampler, "sample", _nobody_writes)
        arguments = ["--responses-of", finished.output, "--teacher", str(away), "--scores.folder", str(tmp_path / "taken")]
        assert main(["cache", "precompute", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["responses"], found["tokens"]) == (fresh.responses, fresh.tokens) == (16, fresh.tokens)
    assert keys(tmp_path / "taken") == keys(tmp_path / "fresh") != set()
    (away / "model.safetensors").unlink()
    scores = ScoreCache(folder=str(tmp_path / "taken"), mode="offline")
    offline = api.train(taught_by(finished, away, tmp_path / "offline", scores=scores))
    first, second = (load_file(result.student / "model.safetensors") for result in (online, offline))
    assert all(torch.equal(first[name], second[name]) for name in first)


def _nobody_writes(self, *inputs, **options):
    raise AssertionError("the student was asked to write")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 3}, "seed"),
        ({"wrap_prompts": "always"}, "wrap_prompts"),
        ({"data": DataSource(path="elsewhere")}, "data"),
    ],
)
def test_settings_under_which_the_run_would_write_others_are_named_before_anything_is_loaded(
    finished, other, tmp_path, change, named
):
    config = taught_by(finished, tmp_path / "no such model", tmp_path / "x", scores=ScoreCache(folder=str(tmp_path)), **change)
    with pytest.raises(ConfigError, match=rf"would not write the responses of .*: {named} differ"):
        precompute(config, responses_of=Path(finished.output))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("opd", "tables are a sample: every 50 steps, at most 64 responses each. With another teacher they would be others"),
        ("sft", "wrote nothing: its responses are those of its data. Use --from in place of --responses-of"),
    ],
)
def test_a_run_that_does_not_keep_its_responses_is_refused_with_what_to_do(pair, tmp_path, capsys, recipe, said):
    made = {"opd": recipes.opd(str(pair.teacher), n=2, max_new_tokens=6), "sft": recipes.sft()}[recipe]
    api.train(pair.config("opd", tmp_path / "earlier", recipe=made, evaluation_data=None))
    arguments = ["--responses-of", str(tmp_path / "earlier"), "--scores.folder", str(tmp_path / "scores")]
    capsys.readouterr()
    assert main(["cache", "precompute", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_a_run_without_a_whole_checkpoint_and_data_that_grew_are_refused(pair, finished, tmp_path):
    data = tmp_path / "prompts.jsonl"
    data.write_text(pair.data.read_text())
    config = replace(finished, data=DataSource(path=str(data)), output=str(tmp_path / "run"))
    api.train(config)
    config = replace(config, scores=ScoreCache(folder=str(tmp_path / "scores")))
    data.write_text(data.read_text() + json.dumps({"id": "new", "prompt": "7+1="}) + "\n")
    with pytest.raises(DataError, match=r"no responses to 1 of 13 examples, the first 'new'"):
        precompute(config, responses_of=tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        precompute(config, responses_of=tmp_path / "run")


def test_the_flag_says_nothing_to_other_actions(tmp_path, capsys):
    assert main(["cache", "stats", str(tmp_path), "--responses-of", "run"]) == 2
    assert "belongs to tutelage cache precompute" in capsys.readouterr().err
