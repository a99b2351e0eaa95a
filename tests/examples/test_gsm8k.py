"""Real prompts through a real tokenizer, at its real vocabulary size: the path works, in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tutelage.tracking import events

EXAMPLE = Path(__file__).parents[2] / "examples" / "gsm8k_qwen3.py"
RECIPES = ["gkd", "opd", "tropd", "opsd"]


def run(folder: Path, data_folder: Path, **options: object) -> dict:
    flags = {"data-folder": data_folder, "output": folder, "json": folder / "figures.json", **options}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    done = subprocess.run([sys.executable, "-W", "error", str(EXAMPLE), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "figures.json").read_text())


def check(figures: dict, folder: Path, *, num_steps: int) -> None:
    assert figures["peak_memory_mib"] < 3000
    assert [found["recipe"] for found in figures["runs"]] == RECIPES
    for name in RECIPES:
        steps = [event for event in events.read(folder / name / "metrics.jsonl") if event.kind == "train"]
        assert [event.step for event in steps] == list(range(1, num_steps + 1))
        assert all(event.metrics["train/gradient_norm"] > 0.0 for event in steps)
        assert "rollout/accuracy_fraction" in steps[-1].metrics  # the answers were verified
    told = [
        event.metrics["context/injected_fraction"]
        for event in events.read(folder / "opsd" / "metrics.jsonl")
        if event.kind == "train"
    ]
    assert told == [1.0] * num_steps  # the teacher read every solution


def test_four_recipes_train_on_word_problems_in_less_than_three_gigabytes(data_folder, tmp_path):
    figures = run(tmp_path, data_folder, **{"num-steps": 2, "max-new-tokens": 12})
    check(figures, tmp_path, num_steps=2)
    rows = [json.loads(line) for line in (tmp_path / "problems.jsonl").read_text().splitlines()]
    assert not any("<<" in row["solution"] for row in rows)
    assert all(row["solution"].endswith(f"#### {row['answer']}") for row in rows if "," not in row["solution"].splitlines()[-1])


@pytest.mark.slow
def test_eight_updates_of_longer_responses_need_no_more_memory(data_folder, tmp_path):
    check(run(tmp_path, data_folder), tmp_path, num_steps=8)
