"""The bench on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tutelage.cli.main import main
from tutelage.lab.bench import compare
from tutelage.lab.bench.settings import HeadBench, StepBench

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
TINY = ["--vocab", "64", "--rows", "8", "--width", "8", "--teacher-width", "8", "--pairs", "1", "--signal", "reverse_kl"]


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(compare, "peer", lambda: None)


@pytest.mark.usefixtures("alone")
def test_a_head_is_measured_written_and_printed(tmp_path, capsys):
    assert main(["bench", "head", *TINY, "--out", str(tmp_path / "head.json")]) == 0
    printed = capsys.readouterr().out
    assert "reverse_kl" in printed
    assert 'pip install "tutelage[peer]"' in printed
    written = json.loads((tmp_path / "head.json").read_text())
    assert HeadBench(**written["settings"] | {"signals": ("reverse_kl",)}).rows == 8


@pytest.mark.usefixtures("alone")
def test_the_result_can_be_read_by_programs(capsys):
    assert main(["bench", "head", *TINY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peer"] is None


def test_flags_become_settings(monkeypatch, capsys):
    asked = []

    def measured(settings, *, say):
        asked.append(settings)
        return {"bench": "growth", "peer": None, "growth": []}

    for name in ("step", "growth"):
        monkeypatch.setattr(compare, name, measured)
    flags = ["--student", "128x2", "--ragged", "0.8", "--accumulation", "8", "--dtype", "bfloat16", "--statistics"]
    assert main(["bench", "step", *flags, "--json"]) == 0
    assert main(["bench", "head", "--growth", "--json"]) == 0
    assert asked == [StepBench(student=(128, 2), ragged=0.8, accumulation=8, dtype="bfloat16", statistics=True), HeadBench()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["head", "--rows", "0"], "rows >= 1"),
        (["head", "--signal", "reverse_lk"], "did you mean 'reverse_kl'"),
        (["step", "--ragged", "-1"], "ragged"),
        (["step", "--out", "no/such/folder.json"], "Make it first"),
        (["head", "--fast"], "--fast"),
    ],
)
def test_a_wrong_value_is_explained(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["step", "--student", "256"], ["head", "--rows", "many"], ["head", "--dtype", "float8"], ["tail"], []]
)
def test_what_cannot_be_read_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_bench_of_the_gpu_says_that_there_is_none():
    done = subprocess.run([sys.executable, str(GPU)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3
    assert "no CUDA device" in done.stderr
