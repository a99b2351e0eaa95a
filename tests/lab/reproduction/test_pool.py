"""Workers of the pool, with a worker that needs nothing but Python."""

import _thread
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tutelage.lab.reproduction.pool import work_off

ECHO = """
import json, os, sys, time
for line in sys.stdin:
    message = json.loads(line)
    if message.get("die"):
        sys.exit("out of luck")
    if "sleep" in message:
        open(message["pid_file"], "w").write(str(os.getpid()))
        time.sleep(message["sleep"])
    print(json.dumps({"told": message.get("number"), "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}), flush=True)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "echo_worker.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "echo_worker"


def test_every_message_is_answered_once_by_as_many_workers_as_asked(echo):
    answers = list[tuple[int, int]]()
    messages = [{"number": number} for number in range(12)]
    work_off(messages, lambda message, answer: answers.append((message["number"], answer["told"])), jobs=3, module=echo)
    assert sorted(answers) == [(number, number) for number in range(12)]


def test_workers_have_one_thread(echo):
    threads = list[str]()
    work_off([{}], lambda message, answer: threads.append(answer["threads"]), jobs=1, module=echo)
    assert threads == ["1"]


def test_a_worker_that_dies_is_replaced_and_its_message_says_why(echo):
    found = dict[int, str]()
    messages = [{"number": 0}, {"number": 1, "die": True}, {"number": 2}]
    work_off(messages, lambda message, answer: found.update({message["number"]: answer.get("died", "")}), jobs=1, module=echo)
    assert "out of luck" in found[1]
    assert (found[0], found[2]) == ("", "")


@pytest.fixture
def _heard():
    """Interrupts arrive, also in a job that was started in the background, which ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heard")
def test_an_interrupt_ends_the_workers_and_hands_on_nothing_more(echo, tmp_path):
    pid_file, answers = tmp_path / "pid", list[object]()

    def interrupt() -> None:
        while not (pid_file.exists() and pid_file.read_text()):
            time.sleep(0.02)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    messages = [{"sleep": 60, "pid_file": str(pid_file)}, {"number": 2}]
    with pytest.raises(KeyboardInterrupt):
        work_off(messages, lambda message, answer: answers.append(answer), jobs=1, module=echo)
    assert answers == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_an_error_of_the_caller_ends_the_workers_and_is_raised(echo):
    def refuse(message: object, answer: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        work_off([{"number": 0}, {"number": 1}], refuse, jobs=2, module=echo)


def test_nothing_to_do_starts_nothing(echo):
    answers = list[object]()
    work_off([], lambda message, answer: answers.append(answer), jobs=2, module="there is no such module")
    assert answers == []
