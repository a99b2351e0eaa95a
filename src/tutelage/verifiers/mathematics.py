"""Verdicts on mathematics, by math-verify in a process of its own."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import final

from tutelage.errors import ConfigError, VerifierError
from tutelage.types import Example, Rollout, Verdict
from tutelage.verifiers.base import NOT_APPLICABLE, verdict
from tutelage.verifiers.parts import MathVerifier

_LOG = logging.getLogger(__name__)
_WORKER = Path(__file__).with_name("math_worker.py")


@final
class MathematicsVerifier:
    """Compares the last expression of a response with the reference. Safe to use from several threads."""

    def __init__(self, part: MathVerifier) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError(
                "The verifier 'math' needs the package math-verify, which is not installed. "
                "Install it with `pip install 'tutelage[math]'`, or take the verifier 'exact_match'."
            )
        if os.name != "posix":
            raise ConfigError(
                "The verifier 'math' needs POSIX timers for its time limit. Take the verifier 'exact_match' here."
            )
        self._part = part
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """Right or wrong; not applicable where the example has neither answer nor solution that can be read."""
        with self._lock:
            return [self._verdict(rollout) for rollout in rollouts]

    def _verdict(self, rollout: Rollout) -> Verdict:
        gold = _reference(rollout.example)
        if gold is None:
            return NOT_APPLICABLE
        if self._worker is None or self._worker.ended:  # it may have been killed from outside, which is no verdict
            self._worker = _Worker(self._part)
        answer = self._worker.ask(gold, rollout.text)
        if answer is None:
            self._worker = None
            _LOG.warning(
                "A response to %r took too long or too much memory to compare; it counts as wrong.", rollout.example.id
            )
            limits = f"{self._part.timeout_seconds:g} s and {self._part.memory_mib} MiB"
            return verdict(False, feedback=f"could not be compared within {limits}")
        readable, correct = answer
        return verdict(correct) if readable else NOT_APPLICABLE


def _reference(example: Example) -> str | None:
    if example.answer is not None:
        # A bare answer such as \frac{1}{2} is found as mathematics only where it is marked as such.
        return example.answer if "\\boxed" in example.answer else f"\\boxed{{{example.answer}}}"
    return example.solution


@final
class _Worker:
    """The process, and the pipes to it."""

    def __init__(self, part: MathVerifier) -> None:
        with tempfile.TemporaryFile("w+") as errors:
            self._process = subprocess.Popen(
                # -P: this file's folder must not lie on the module path, where its neighbours would be taken for packages
                [sys.executable, "-P", str(_WORKER), str(part.timeout_seconds), str(part.memory_mib)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="ascii",  # JSON escapes the rest
                process_group=0,  # Ctrl-C stops the run in its own time, and verdicts are needed until then
            )
            self._close = weakref.finalize(self, _end, self._process)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._requests, self._answers = self._process.stdin, self._process.stdout
            if self._answers.readline() != "ready\n":
                self._close()
                errors.seek(0)
                lines = errors.read().strip().splitlines()
                raise VerifierError(
                    f"The process of the verifier 'math' did not start: {lines[-1] if lines else 'it said nothing'}. "
                    "Check that math-verify can be imported and that memory_mib is enough."
                )

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def ask(self, gold: str, response: str) -> tuple[bool, bool] | None:
        """Whether the reference can be read, and whether the response equals it; None if the process ended over it."""
        try:
            self._requests.write(json.dumps([gold, response]) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            self._close()
            return None
        readable, correct = json.loads(line)
        return readable, correct


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()  # waits and closes the pipes
