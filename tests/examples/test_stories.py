"""A real student comes nearer to its real teacher."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "stories.py"
REVERSE, FORWARD = "eval/reverse_kl_nats", "eval/teacher_text_forward_kl_nats"
FULL = "gkd beta=1 lambda=1"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(folder: Path, data_folder: Path, *, recipes: list[str], num_steps: int) -> dict[str, Any]:
    figures = folder / "figures.json"
    where = ["--data-folder", str(data_folder), "--output", str(folder), "--json", str(figures)]
    what = ["--num-steps", str(num_steps), "--recipes", *recipes]
    command = [sys.executable, "-W", "error", str(EXAMPLE), *where, *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {found["recipe"]: found for found in json.loads(figures.read_text())}


@pytest.fixture(scope="module")
def short(data_folder, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("stories")
    return folder, run(folder, data_folder, recipes=[FULL], num_steps=50)[FULL]


def test_the_reverse_kl_of_a_real_pair_falls_by_more_than_its_intervals_leave_open(short):
    _, found = short
    _, lowest_before, _ = found["before"][REVERSE]
    _, _, highest_after = found["after"][REVERSE]
    assert highest_after < lowest_before - 0.1


def test_held_out_stories_are_the_last_ones_and_a_cut_story_says_so(short, data_folder):
    folder, _ = short
    samples = lines(data_folder / "models" / "stories260K" / "samples_t1.jsonl")
    texts = {f"story-{row['id']}": (row["text"], "stop" if row["ended"] else "length") for row in samples}
    train, held_out = lines(folder / "train.jsonl"), lines(folder / "held_out.jsonl")
    for story in train + held_out:
        assert (f"{story['prompt']} {story['response']}", story["finish_reason"]) == texts[story["id"]]
    last = {f"story-{row['id']}" for row in samples[-60:]}
    assert {story["id"] for story in held_out} <= last
    assert not {story["id"] for story in train} & last
    assert len(held_out) >= 58


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_recipe_lowers_what_it_minimises(data_folder, tmp_path):
    found = run(tmp_path, data_folder, recipes=["sft", "gkd", FULL, "opd"], num_steps=300)
    reverse, forward = (
        {name: one["after"][measure][0] / one["before"][measure][0] for name, one in found.items()}
        for measure in (REVERSE, FORWARD)
    )
    assert min(reverse, key=reverse.__getitem__) == FULL
    assert reverse[FULL] < 0.6
    assert min(forward, key=forward.__getitem__) == "sft"
    assert forward["sft"] < 1.0
