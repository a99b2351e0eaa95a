"""Checkpoints are whole or absent, and anything else is named and passed over."""

import logging
import random

import numpy as np
import pytest
import torch

from tutelage.errors import CheckpointError
from tutelage.training import checkpoint


def _student(folder):
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")


def _save(folder, step, *, keep=2, value=0.0):
    return checkpoint.save(folder, step=step, state={"part": {"x": torch.tensor(value)}}, save_student=_student, keep=keep)


def test_state_comes_back_as_it_was(tmp_path):
    _save(tmp_path, 3, value=1.5)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 3
    assert torch.equal(checkpoint.load(found)["part"]["x"], torch.tensor(1.5))


def test_random_generators_go_on_where_they_were(tmp_path):
    saved = _save(tmp_path, 1)
    expected = (torch.rand(3), np.random.rand(3), random.random())
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    checkpoint.load(saved)
    again = (torch.rand(3), np.random.rand(3), random.random())
    assert torch.equal(again[0], expected[0])
    assert np.array_equal(again[1], expected[1])
    assert again[2] == expected[2]


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10):
        _save(tmp_path, step, keep=2)
    assert [found.step for found in checkpoint.whole(tmp_path)] == [2, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000010"]


def test_saving_a_step_again_replaces_it(tmp_path):
    _save(tmp_path, 5, value=1.0)
    _save(tmp_path, 5, value=2.0)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert checkpoint.load(found)["part"]["x"] == 2.0


def test_a_half_written_checkpoint_is_ignored_with_a_message(tmp_path, caplog):
    _save(tmp_path, 1)
    (tmp_path / ".step-000002.writing").mkdir()
    with caplog.at_level(logging.WARNING):
        found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step-000002" in caplog.text
    assert "being written" in caplog.text


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(tmp_path, caplog, damage):
    _save(tmp_path, 1)
    path = _save(tmp_path, 2).path
    victim = path / "student" / "model.bin"
    match damage:
        case "flip":
            victim.write_bytes(b"weightz")
        case "shorten":
            victim.write_bytes(b"w")
        case "remove":
            victim.unlink()
        case "manifest":
            (path / "manifest.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step-000002" in caplog.text


def test_a_full_disk_leaves_older_checkpoints_and_nothing_half_written(tmp_path):
    _save(tmp_path, 1)

    def full(folder):
        folder.mkdir()
        (folder / "model.bin").write_bytes(b"part")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space left") as raised:
        checkpoint.save(tmp_path, step=2, state={}, save_student=full, keep=2)
    assert "Free some space" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_folder_without_checkpoints_has_no_newest_one(tmp_path):
    assert checkpoint.newest(tmp_path / "absent") is None
