import errno
import json
import logging
import math
import os
from pathlib import Path

import pytest

from tutelage.errors import CheckpointError, ConfigError
from tutelage.tracking import RunFolder, Tracker, events

KL = "signal/reverse_kl_nats"
ACCURACY = "eval/greedy_accuracy_fraction"
NO_EVENTS = ("nonsense", "[]", '{"step": 1}', '{"step": 1, "time_seconds": 0, "kind": "train", "metrics": 3}')


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", config={}, environment={})


def write(folder: RunFolder, *steps: int, resumed_step: int | None = None) -> None:
    tracker = Tracker(folder, resumed_step=resumed_step)
    for step in steps:
        tracker.log(step, {KL: 1.0 / (step + 1)})
    tracker.close()


def steps(folder: RunFolder) -> list[int]:
    return [event.step for event in events.read(folder.metrics_file)]


def test_events_are_read_as_they_were_logged(folder: RunFolder):
    tracker = Tracker(folder)
    logged = [
        tracker.log(
            0, {"eval/greedy_accuracy_fraction": 0.5}, kind="eval", intervals={"eval/greedy_accuracy_fraction": (0.4, 0.6)}
        ),
        tracker.log(1, {KL: 0.25, "term/kl/loss_nats": 0.25}),
    ]
    tracker.close()
    assert events.read(folder.metrics_file) == logged


def test_each_event_is_one_line_of_strict_json_with_null_for_what_is_not_finite(folder: RunFolder):
    tracker = Tracker(folder)
    tracker.log(1, {KL: math.nan, "train/loss_nats": math.inf})
    tracker.close()
    (line,) = folder.metrics_file.read_text().splitlines()

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    assert json.loads(line, parse_constant=refuse)["metrics"] == {KL: None, "train/loss_nats": None}
    (event,) = events.read(folder.metrics_file)
    assert all(math.isnan(value) for value in event.metrics.values())


def test_events_are_on_disk_while_the_run_goes_on(folder: RunFolder):
    tracker = Tracker(folder)
    tracker.log(1, {KL: 0.5})
    assert steps(folder) == [1]
    tracker.close()


def test_a_name_that_is_not_declared_is_refused_before_anything_is_written(folder: RunFolder):
    tracker = Tracker(folder)
    with pytest.raises(ConfigError, match="nearest"):
        tracker.log(1, {KL: 0.5, "signal/reversed_kl": 0.5})
    tracker.close()
    assert folder.metrics_file.read_bytes() == b""


def test_a_new_run_does_not_write_into_the_events_of_another(folder: RunFolder):
    write(folder, 1)
    with pytest.raises(CheckpointError, match="--resume"):
        Tracker(folder)
    assert steps(folder) == [1]


def test_half_a_line_is_ignored_with_a_warning(folder: RunFolder, caplog: pytest.LogCaptureFixture):
    write(folder, 1, 2)
    with folder.metrics_file.open("ab") as file:
        file.write(b'{"step": 3, "time_seconds": 1.0, "kin')
    with caplog.at_level(logging.WARNING):
        assert steps(folder) == [1, 2]
    assert "Ignoring line 3 of metrics.jsonl" in caplog.text


def test_half_a_line_that_is_json_already_is_half_a_line(folder: RunFolder):
    write(folder, 1, 2)
    content = folder.metrics_file.read_bytes()
    folder.metrics_file.write_bytes(content[:-1])  # only the line's end is missing
    assert steps(folder) == [1]


def test_a_resumed_run_overwrites_half_a_line(folder: RunFolder):
    write(folder, 1, 2)
    with folder.metrics_file.open("ab") as file:
        file.write(b'{"step": 3, "time')
    write(folder, 3, resumed_step=2)
    assert steps(folder) == [1, 2, 3]
    assert folder.metrics_file.read_bytes().count(b"\n") == 3


def test_a_resumed_run_drops_what_came_after_its_checkpoint(folder: RunFolder):
    write(folder, 1, 2, 3, 4)
    folder.rollout_file(2).parent.mkdir()
    for step in (2, 4):
        folder.rollout_file(step).touch()
    write(folder, 3, 4, 5, resumed_step=2)
    assert steps(folder) == [1, 2, 3, 4, 5]
    assert list(folder.rollout_files()) == [2]


def test_a_run_that_resumes_at_the_start_begins_again(folder: RunFolder):
    write(folder, 0, 1)
    write(folder, 0, resumed_step=0)
    assert steps(folder) == [0]


def test_time_goes_on_where_a_resumed_run_was(folder: RunFolder):
    line = {"step": 1, "time_seconds": 500.0, "kind": "train", "metrics": {KL: 1.0}}
    folder.metrics_file.write_text(json.dumps(line) + "\n")
    write(folder, 2, resumed_step=1)
    assert 500.0 <= events.read(folder.metrics_file)[-1].time_seconds < 510.0


@pytest.mark.parametrize("line", NO_EVENTS)
def test_another_bad_line_is_named_by_its_number(folder: RunFolder, line: str):
    write(folder, 1)
    with folder.metrics_file.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(CheckpointError, match="Line 2"):
        events.read(folder.metrics_file)


def test_a_run_without_events_reads_as_none(folder: RunFolder):
    assert events.read(folder.metrics_file) == []


def test_a_file_that_cannot_be_opened_is_an_error_with_a_remedy(folder: RunFolder):
    folder.metrics_file.mkdir()
    with pytest.raises(CheckpointError, match="Is a directory"):
        Tracker(folder)
    with pytest.raises(CheckpointError, match="Is a directory"):
        events.read(folder.metrics_file)


def test_a_file_that_cannot_be_cut_back_is_an_error_with_a_remedy(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    write(folder, 1, 2)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "truncate", refuse)
    with pytest.raises(CheckpointError, match=r"Read-only file system.*mend the permissions"):
        Tracker(folder, resumed_step=1)


def test_an_empty_line_is_no_event(folder: RunFolder):
    write(folder, 1)
    with folder.metrics_file.open("a") as file:
        file.write("\n")
    write(folder, 2, resumed_step=1)
    assert steps(folder) == [1, 2]


def test_a_full_disk_is_an_error_with_path_and_remedy(folder: RunFolder):
    folder.metrics_file.symlink_to("/dev/full")
    tracker = Tracker(folder)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl.*No space left on device.*Free some space"):
        tracker.log(1, {KL: 0.5})
    tracker.close()


def test_a_disk_that_fills_up_within_a_line_leaves_whole_lines_only(folder: RunFolder):
    tracker = Tracker(folder)
    tracker.log(1, {KL: 0.5})
    tracker._file = _Filling(tracker._file)
    with pytest.raises(CheckpointError):
        tracker.log(2, {KL: 0.5})
    tracker._file = tracker._file.file
    tracker.log(3, {KL: 0.5})  # room again
    tracker.close()
    assert steps(folder) == [1, 3]


class _Filling:
    """A file on a disk with room for ten more bytes."""

    def __init__(self, file):
        self.file, self.room = file, 10

    def write(self, content: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        sent, self.room = self.file.write(content[: self.room]), 0
        return sent

    def truncate(self, size: int) -> int:
        return self.file.truncate(size)
