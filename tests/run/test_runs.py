"""Whole runs of tiny models: what they leave behind, and that an interruption leaves no trace."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import RECIPES, Pair, make_pair
from transformers import AutoModelForCausalLM, AutoTokenizer

from tutelage.errors import CheckpointError, DataError, Interrupted, NumericsError, VerifierError
from tutelage.models import LanguageModel, Lora, ModelSource
from tutelage.run import api
from tutelage.tracking import events
from tutelage.tracking.rollout_table import RolloutRecord, read_table
from tutelage.training.settings import CheckpointSettings
from tutelage.verifiers import FunctionVerifier


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def stopping_after(steps: int):
    @contextmanager
    def stop() -> Iterator[object]:
        asked = iter(range(1000))
        yield lambda: next(asked) >= steps

    return stop


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def logged(folder: Path) -> list[tuple[int, str, dict[str, float]]]:
    """Everything that was logged except what a clock says."""
    return [
        (
            event.step,
            event.kind,
            {name: value for name, value in event.metrics.items() if "second" not in name},
        )
        for event in events.read(folder / "metrics.jsonl")
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_leaves_a_student_that_transformers_loads_and_numbers_that_can_be_read(pair, tmp_path, name):
    result = api.train(pair.config(name, tmp_path / "run"))
    student = AutoModelForCausalLM.from_pretrained(result.student)
    prompt = AutoTokenizer.from_pretrained(result.student)("1+1=", return_tensors="pt")["input_ids"]
    assert student(prompt).logits.isfinite().all()
    before = weights(pair.student)
    assert any(not torch.equal(before[key], value) for key, value in weights(result.student).items())
    steps = [event for event in events.read(tmp_path / "run" / "metrics.jsonl") if event.kind == "train"]
    assert [event.step for event in steps] == [1, 2, 3, 4]
    assert sorted(result.evaluations) == [0, 4]
    assert "eval/reverse_kl_nats" in result.evaluations[4].metrics
    assert result.report.stat().st_size > 100_000
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["name"] == name


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_run_has_the_same_bits_as_one_that_never_stopped(pair, tmp_path, monkeypatch, name):
    whole = api.train(pair.config(name, tmp_path / "whole"))
    monkeypatch.setattr(api, "stop_on_signals", stopping_after(3))
    with pytest.raises(Interrupted, match="3 of 4"):
        api.train(pair.config(name, tmp_path / "parts"))
    monkeypatch.undo()
    resumed = api.resume(tmp_path / "parts")
    expected, found = weights(whole.student), weights(resumed.student)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")


def test_adapters_are_trained_merged_and_resumed(pair, tmp_path, monkeypatch):
    student = ModelSource(path=str(pair.student), lora=Lora(rank=2, alpha=4))
    whole = api.train(pair.config("gkd", tmp_path / "whole", student=student))
    monkeypatch.setattr(api, "stop_on_signals", stopping_after(2))
    with pytest.raises(Interrupted):
        api.train(pair.config("gkd", tmp_path / "parts", student=student))
    monkeypatch.undo()
    resumed = api.resume(tmp_path / "parts")
    assert (resumed.student / "adapter" / "adapter_model.safetensors").is_file()
    expected, found, before = weights(whole.student), weights(resumed.student), weights(pair.student)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert any(not torch.equal(before[key], found[key]) for key in before)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(pair, tmp_path):
    first, second, other = (
        api.train(pair.config("opd", tmp_path / folder, seed=seed)) for folder, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert logged(first.folder) == logged(second.folder)
    assert logged(first.folder) != logged(other.folder)


def test_a_run_is_repeated_from_its_folder(pair, tmp_path):
    first = api.train(pair.config("vopd", tmp_path / "first"))
    again = replace(api.config_of(api.RunFolder.open_existing(first.folder)), output=str(tmp_path / "again"))
    second = api.train(again)
    assert logged(first.folder) == logged(second.folder)


def test_a_logit_that_is_not_a_number_names_its_place_saves_and_stops(pair, tmp_path, monkeypatch):
    states = LanguageModel.hidden_states
    calls = iter(range(1000))

    def poisoned(self, *inputs, **options):
        found = states(self, *inputs, **options)
        if self.name == str(pair.teacher) and next(calls) >= 2:
            found = found.clone()
            found[0, -2:] = torch.nan
        return found

    config = pair.config("gkd", tmp_path / "run", evaluation_data=None)
    monkeypatch.setattr(LanguageModel, "hidden_states", poisoned)
    with pytest.raises(NumericsError, match=r"rollout \d+ .* position \d+"):
        api.train(config)
    saved = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert saved
    assert all(value.isfinite().all() for value in weights(saved[-1] / "student").values())


def test_a_verifier_that_raises_ends_the_run_with_its_name(pair, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def reward(prompts, completions, **columns):\n    raise KeyError('gold')\n")
    config = pair.config("opd", tmp_path / "run", verifier=FunctionVerifier(path=f"{broken}:reward"))
    with pytest.raises(VerifierError, match=r"broken\.py.*gold|reward.*gold"):
        api.train(config)


def test_a_full_disk_while_saving_keeps_older_checkpoints(pair, tmp_path, monkeypatch):
    save, calls = LanguageModel.save, iter(range(1000))

    def full(self, folder):
        if next(calls) == 1:
            folder.mkdir(parents=True)
            (folder / "model.safetensors").write_bytes(b"part")
            raise OSError(28, "No space left on device")
        save(self, folder)

    monkeypatch.setattr(LanguageModel, "save", full)
    config = pair.config("opd", tmp_path / "run", evaluation_data=None, checkpoints=CheckpointSettings(every=1, keep=3))
    with pytest.raises(CheckpointError, match="No space left"):
        api.train(config)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000001"]
    monkeypatch.undo()
    resumed = api.resume(tmp_path / "run")
    assert resumed.student.parent.name == "step-000004"


def test_resuming_skips_a_damaged_checkpoint_with_a_message(pair, tmp_path, caplog):
    result = api.train(pair.config("opd", tmp_path / "run"))
    (result.student / "model.safetensors").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        resumed = api.resume(tmp_path / "run")
    assert "step-000004" in caplog.text
    assert weights(resumed.student)


def test_a_folder_without_checkpoints_cannot_be_resumed(pair, tmp_path):
    result = api.train(pair.config("opd", tmp_path / "run", evaluation_data=None))
    for path in result.student.parents[1].iterdir():
        (path / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        api.resume(tmp_path / "run")


def test_an_output_that_holds_a_run_is_refused_before_any_model_is_looked_for(pair, tmp_path):
    config = pair.config("opd", api.train(pair.config("opd", tmp_path / "run")).folder)
    with pytest.raises(CheckpointError, match="already holds a run"):
        api.train(replace(config, student=ModelSource(path=str(tmp_path / "nowhere"))))


def test_a_prompt_longer_than_the_context_is_refused_before_the_first_step(pair, tmp_path):
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"id": "too-long", "prompt": "1+" * 400}) + "\n")
    config = pair.config("opd", tmp_path / "run", evaluation_data=None)
    with pytest.raises(DataError, match="too-long"):
        api.train(replace(config, data=replace(config.data, path=str(long))))
    assert not (tmp_path / "run").exists()


def test_tables_of_rollouts_say_what_each_token_weighed_and_what_became_of_the_context(pair, tmp_path):
    trusting = api.train(pair.config("tropd", tmp_path / "tropd", evaluation_data=None))
    weighed = [weight for row in tables(trusting.folder) for weight in row.weights]
    assert set(weighed) == {1.0}  # inside or outside: each token weighs one in exactly one of the two complementary terms
    teaching = api.train(pair.config("opsd", tmp_path / "opsd", evaluation_data=None))
    assert {row.context for row in tables(teaching.folder)} == {"injected:solution"}


def tables(folder: Path) -> list[RolloutRecord]:
    return [row for path in sorted((folder / "rollouts").iterdir()) for row in read_table(path)]
