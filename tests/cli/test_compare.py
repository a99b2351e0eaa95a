"""Runs that a real training left, side by side on the command line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tutelage.cli.main import main
from tutelage.evaluation import EvaluationSettings
from tutelage.lab import tasks
from tutelage.lab.pretrain import write_problems
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import ModelSource
from tutelage.recipes import gkd
from tutelage.run.api import train
from tutelage.run.config import RunConfig
from tutelage.training.settings import OptimiserSettings, TrainingSettings

CHAIN = tasks.get("chain")
SHAPE = Shape(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=16, initial_std=0.3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    tokenizer = make_tokenizer(CHAIN.characters)
    models = [make_model(folder / name, tokenizer=tokenizer, shape=SHAPE, seed=seed) for seed, name in enumerate("st")]
    config = RunConfig(
        recipe=gkd(str(models[1]), beta=1.0, student_fraction=1.0, max_new_tokens=8),
        student=ModelSource(path=str(models[0])),
        data=write_problems(folder / "prompts.jsonl", CHAIN.problems(4, seed=0)),
        evaluation_data=write_problems(folder / "held_out.jsonl", CHAIN.problems(6, seed=0, split="held_out")),
        verifier=CHAIN.verifier,
        evaluation=EvaluationSettings(samples=2, written=4),
        training=TrainingSettings(num_steps=2, prompts_per_step=2),
        device="cpu",
    )
    made = [
        replace(config, output=str(folder / name), optimiser=OptimiserSettings(learning_rate=rate, warmup_steps=0))
        for name, rate in (("slow", 1e-3), ("fast", 1e-1))
    ]
    return [train(each).folder for each in made]


def test_a_run_keeps_what_its_evaluations_found_by_example(runs, capsys):
    assert main(["compare", *map(str, runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["evaluated_at_step"] for run in found["runs"]] == [2, 2]
    assert found["notes"] == []
    for name, (first, second) in found["metrics"].items():
        if name.startswith("eval/"):
            assert first["difference"] is None
            assert second["num_shared"] == 6
            assert second["difference"] == pytest.approx(second["value"] - first["value"], abs=1e-6)
            assert second["difference_interval"][0] - 1e-9 <= second["difference"] <= second["difference_interval"][1] + 1e-9
    assert len(found["prompts"]) == 4
    response = found["prompts"][0]["responses"][1]
    assert len(response["tokens"]) == len(response["reverse_kl_nats"]) == len(response["teacher_log_probs"])
    assert all(number is not None and number >= 0.0 for number in response["reverse_kl_nats"])


def test_the_words_name_runs_metrics_and_prompts(runs, tmp_path, capsys):
    assert main(["compare", *map(str, runs), "--output", str(tmp_path / "page.html"), "--prompts", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["slow", "fast"]
    assert printed.count("prompt '") == 2
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")


def test_comparing_needs_no_torch(runs, tmp_path):
    code = (
        "import sys; from tutelage.cli.main import main; "
        f"main(['compare', {str(runs[0])!r}, {str(runs[1])!r}, '--output', {str(tmp_path / 'x.html')!r}]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120).returncode == 0


def test_a_wrong_folder_is_explained(runs, capsys):
    assert main(["compare", str(runs[0])]) == 2
    assert "at least two runs" in capsys.readouterr().err
    assert main(["compare", str(runs[0]), str(runs[1] / "checkpoints")]) == 1
    assert f"Did you mean {str(runs[1])!r}?" in capsys.readouterr().err
