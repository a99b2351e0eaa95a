import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tutelage.errors import CheckpointError
from tutelage.tracking import RunFolder, environment, files

CONFIG = {"seed": 3, "recipe": {"name": "opd"}}
ENVIRONMENT = {"tutelage": "0.1.0"}


def make(path: Path) -> RunFolder:
    return RunFolder.create(path, config=CONFIG, environment=ENVIRONMENT)


def test_a_new_run_can_be_opened_again(tmp_path: Path):
    make(tmp_path / "run")
    opened = RunFolder.open_existing(tmp_path / "run")
    assert opened.config() == CONFIG
    assert opened.environment() == ENVIRONMENT
    assert opened.name == "run"


def test_an_empty_folder_is_taken(tmp_path: Path):
    assert make(tmp_path).config() == CONFIG


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("work")
    with pytest.raises(CheckpointError, match=r"not empty and holds no run: thesis\.tex"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_run_in_the_same_folder_is_told_to_resume(tmp_path: Path):
    make(tmp_path)
    with pytest.raises(CheckpointError, match="--resume"):
        make(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        make(tmp_path / "run")


def test_what_is_not_a_run_says_what_it_is_instead(tmp_path: Path):
    with pytest.raises(CheckpointError, match="There is no folder"):
        RunFolder.open_existing(tmp_path / "absent")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen3"}')
    with pytest.raises(CheckpointError, match="model in Hugging Face format"):
        RunFolder.open_existing(tmp_path / "model")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"no config\.json and no environment\.json, and holds notes\.txt"):
        RunFolder.open_existing(tmp_path / "other")


def test_a_folder_near_a_run_points_to_it(tmp_path: Path):
    run = make(tmp_path / "runs" / "first")
    run.checkpoints.mkdir()
    with pytest.raises(CheckpointError, match=r"Did you mean .*first"):
        RunFolder.open_existing(tmp_path / "runs")
    with pytest.raises(CheckpointError, match=r"lies inside one\. Did you mean .*first"):
        RunFolder.open_existing(run.checkpoints)


@pytest.mark.parametrize("content", ["", '{"seed": ', "[1]"])
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: str):
    run = make(tmp_path)
    run.config_file.write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        RunFolder.open_existing(tmp_path)


def test_rollout_files_are_listed_by_step_and_dropped_after_one(tmp_path: Path):
    run = make(tmp_path)
    for step in (300, 5, 1_000_000):
        run.rollout_file(step).parent.mkdir(exist_ok=True)
        run.rollout_file(step).touch()
    (tmp_path / "rollouts" / ".step-000007.parquet.writing").touch()
    assert list(run.rollout_files()) == [5, 300, 1_000_000]
    run.drop_tables_after(300)
    assert list(run.rollout_files()) == [5, 300]


def test_a_full_disk_leaves_the_old_file_and_names_path_and_remedy(tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fill(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CheckpointError, match=r"report\.html.*No space left.*Free some space"):
        files.write_whole(path, fill)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_file_that_can_neither_be_written_nor_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CheckpointError, match=r"\.report\.html\.writing.*Remove it by hand"):
        files.write_whole(tmp_path / "report.html", refuse)


def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy():
    with pytest.raises(CheckpointError, match="choose another --output"):
        make(Path("/proc/no-such-process/run"))


def test_text_that_no_encoding_can_hold_is_written_all_the_same(tmp_path: Path):
    files.write_text(tmp_path / "a.txt", "x\ud800y")
    assert (tmp_path / "a.txt").read_text("utf-8") == "x?y"


def test_the_environment_names_versions_seeds_and_hardware_but_no_person_or_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("USER", "jane")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = environment.describe(seeds={"run": 7})
    told = json.dumps(found)
    assert found["seeds"] == {"run": 7}
    assert set(found["packages"]) >= {"torch", "transformers", "numpy"}
    assert found["hardware"]["cpus"] >= 1
    assert found["git"]["working_folder"] is None  # no repository there
    assert "jane" not in told
    assert str(tmp_path) not in told
    assert str(Path(files.__file__).parents[3]) not in told


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_git_state_tells_commit_and_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, check=True)

    git("init", "--quiet")
    (tmp_path / "a.txt").write_text("one")
    git("add", "a.txt")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.chdir(tmp_path)
    clean = environment.describe(seeds={})["git"]["working_folder"]
    (tmp_path / "a.txt").write_text("two")
    changed = environment.describe(seeds={})["git"]["working_folder"]
    assert len(clean["commit"]) == 40
    assert (clean["changed"], changed["changed"]) == (False, True)


def test_graphics_cards_are_listed_where_torch_is_loaded(monkeypatch: pytest.MonkeyPatch):
    card = SimpleNamespace(name="Card 9000", total_memory=8 * 2**30)
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, get_device_properties=lambda _: card)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert environment.describe(seeds={})["hardware"]["gpus"] == [{"name": "Card 9000", "memory_gib": 8.0}] * 2
    monkeypatch.delitem(sys.modules, "torch")
    assert environment.describe(seeds={})["hardware"]["gpus"] == []


def test_what_cannot_be_found_out_is_left_open(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> int:
        raise OSError("not told")

    monkeypatch.setattr(os, "sysconf", refuse)
    monkeypatch.setenv("PATH", "")  # no git
    monkeypatch.setattr(environment, "_PACKAGES", ("no-such-package",))
    found = environment.describe(seeds={})
    assert found["hardware"]["memory_gib"] is None
    assert found["git"] == {"package": None, "working_folder": None}
    assert found["packages"] == {}
