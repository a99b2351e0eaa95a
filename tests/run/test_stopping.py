"""Signals: the first one ends the step, saves and exits with its documented code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.pairs import make_pair

from tutelage.run import resume
from tutelage.run.stopping import stop_on_signals
from tutelage.training import checkpoint


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with stop_on_signals() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
    assert signal.getsignal(number) is before


def test_a_terminated_run_saves_exits_with_5_and_can_be_continued(tmp_path: Path):
    pair = make_pair(tmp_path)
    run = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "tutelage.cli.main", "train", "gkd"),
        *("--student", str(pair.student), "--teacher", str(pair.teacher)),
        *("--data", str(pair.data), "--knobs.max_new_tokens", "4", "--training.num-steps", "100000", "--output", str(run)),
        *("--optimiser.decay", "constant"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_bytes().count(b"\n"):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 5
    assert "the state is in step-" in errors
    assert "Traceback" not in errors
    saved = checkpoint.newest(run / "checkpoints")
    assert saved is not None
    assert resume(run, num_steps=saved.step + 2).student.parent.name == f"step-{saved.step + 2:06d}"
