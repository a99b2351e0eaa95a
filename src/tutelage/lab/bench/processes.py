"""Workers, seen from whoever gives them work: started, asked, ended."""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import TracebackType
from typing import Any, final

from tutelage.errors import TutelageError

_LAST_LINES = 12
_PATIENCE_SECONDS = 5.0
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}


def peer() -> str | None:
    """The peer and its version, without importing it; None where it is not installed."""
    if find_spec("trl") is None:
        return None
    try:
        return f"TRL {version('trl')}"
    except PackageNotFoundError:
        return "TRL"


@final
class Worker:
    """A process of one thread that works when it is asked to; a context manager that ends it whatever happens."""

    def __init__(self, name: str, job: dict[str, Any], *, module: str = "tutelage.lab.bench.worker") -> None:
        """Start it.

        Args:
            name: For messages.
            job: What it builds first.
            module: What it runs; it answers each line of its input with one line. The default holds one side of a bench.
        """
        self.name = name
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # an interrupt from the keyboard is ours to hand on, once
        )
        self._job = job

    def __enter__(self) -> "Worker":
        """Build its inputs.

        Raises:
            TutelageError: It ended before it was ready.
        """
        try:
            self.ask(self._job)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End it."""
        self.end()

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Tell it something and wait for the answer.

        Raises:
            TutelageError: It ended; the message holds the last lines that it wrote.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise TutelageError(self._obituary())
        return json.loads(line)

    def stop(self) -> None:
        """Make the process end while another thread waits for its answer; that thread sees it gone, and calls `end`."""
        self._process.terminate()

    def end(self) -> None:
        """Let it end by itself, and make it end if it does not."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:  # it has gone already
                    continue
        for stop in (lambda: None, self._process.terminate, self._process.kill):
            stop()
            try:
                self._process.wait(_PATIENCE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        self._log.close()

    def _obituary(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        last = self._log.read().strip().splitlines()[-_LAST_LINES:]
        said = "\n  ".join(last) if last else "nothing"
        how = f"was ended by signal {-code}; was there enough memory?" if code < 0 else f"ended with code {code}."
        return f"The worker {self.name!r} {how} Its last lines:\n  {said}"
