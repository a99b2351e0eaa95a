import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import CheckpointError
from tutelage.lab.pretrain import Pretraining
from tutelage.lab.quickstart import Quickstart, QuickstartResult, quickstart
from tutelage.lab.tiny_models import Shape
from tutelage.models import ModelSource, load

TINY = Pretraining(shape=Shape(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=16), num_steps=2, prompts_per_step=4)
SMALL = Quickstart(
    teacher=replace(TINY, num_problems=32),
    student=replace(TINY, num_problems=16),
    num_prompts=8,
    num_held_out=12,
    num_steps=3,
    prompts_per_step=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(folder: Path, said: list[str]) -> QuickstartResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return quickstart(replace(SMALL, output=str(folder / "tour")), say=said.append)


def run_config(result: QuickstartResult, run: str) -> dict[str, Any]:
    return json.loads((result.folder / run / "config.json").read_text())


def test_four_lines_with_intervals_around_their_values(result: QuickstartResult, said: list[str]):
    assert [line.name.split()[0] for line in result.lines] == ["teacher", "student", "distilled", "trained"]
    assert all(0.0 <= line.interval[0] <= line.accuracy <= line.interval[1] <= 1.0 for line in result.lines)
    assert all(line.name in result.table() for line in result.lines)
    assert len(said) == 4


def test_both_methods_share_everything_but_the_recipe(result: QuickstartResult):
    distilled, supervised = (run_config(result, run) for run in ("distilled", "supervised"))
    assert {key for key in distilled if distilled[key] != supervised[key]} == {"recipe", "output"}
    assert distilled["recipe"]["teacher"] == supervised["recipe"]["teacher"]


def test_nobody_is_evaluated_on_what_it_was_trained_on(result: QuickstartResult):
    prompts, held_out = (
        {json.loads(line)["prompt"] for line in (result.folder / name).read_text().splitlines()}
        for name in ("prompts.jsonl", "held_out.jsonl")
    )
    assert (len(prompts), len(held_out)) == (SMALL.num_prompts, SMALL.num_held_out)
    assert not prompts & held_out


def test_the_report_shows_both_runs_and_the_student_can_be_loaded(result: QuickstartResult):
    page = result.report.read_text()
    assert "distilled" in page
    assert "supervised" in page
    student = load(ModelSource(path=str(result.student)), role="student")
    assert student.model.config.hidden_size == SMALL.student.shape.hidden


def test_models_are_found_again_and_made_again_only_when_asked(
    result: QuickstartResult, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    once = replace(SMALL, num_steps=1, evaluate_every=0)
    found = quickstart(replace(once, output=str(folder / "found")))
    assert [line.seconds for line in found.lines[:2]] == [0.0, 0.0]
    assert found.lines[:2] == tuple(replace(line, seconds=0.0) for line in result.lines[:2])
    again = quickstart(replace(once, output=str(folder / "fresh"), fresh=True))
    assert min(line.seconds for line in again.lines[:2]) > 0.0
    assert [line.accuracy for line in again.lines] == [line.accuracy for line in found.lines]


def test_an_earlier_tour_is_left_alone(tmp_path: Path, folder: Path, result: QuickstartResult, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    Path("runs/quickstart").mkdir(parents=True)
    assert quickstart(replace(SMALL, num_steps=1, evaluate_every=0)).folder == Path("runs/quickstart-2")
    assert list(Path("runs/quickstart").iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(CheckpointError, match="not an empty folder"):
        quickstart(replace(SMALL, output=str(tmp_path / "mine")))
    assert not (tmp_path / "cache").exists()
