"""Several workers at once, each of one thread; ended together whatever happens."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from queue import Empty, Queue
from typing import Any, final

from tutelage.errors import TutelageError
from tutelage.lab.bench.processes import Worker

Message = dict[str, Any]
Done = Callable[[Message, Message], None]
"""Takes a message and its answer, `{"died": why}` where the worker ended over it; called by one thread at a time."""

_MODULE = "tutelage.lab.reproduction.worker"
_GLANCE_SECONDS = 0.2


def work_off(messages: Sequence[Message], done: Done, *, jobs: int, module: str = _MODULE) -> None:
    """Hand the messages out to workers in their order, and return when all are answered.

    An interrupt ends every worker before it goes on. What was answered until then has been handed to `done`.

    Args:
        messages: One per piece of work.
        done: Takes each answer as it comes.
        jobs: Workers at once.
        module: What the workers run.

    Raises:
        TutelageError: A worker did not start.
    """
    if messages:
        _Pool(messages, done, module).run(min(jobs, len(messages)))


@final
class _Pool:
    def __init__(self, messages: Sequence[Message], done: Done, module: str) -> None:
        self._todo: Queue[Message] = Queue()
        for message in messages:
            self._todo.put(message)
        self._done, self._module = done, module
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._workers: list[Worker] = []
        self._error: BaseException | None = None

    def run(self, jobs: int) -> None:
        # Events, for an interrupted `Thread.join` takes the thread for ended.
        ended = [threading.Event() for _ in range(jobs)]
        for number, event in enumerate(ended):
            threading.Thread(target=self._serve, args=(number, event), daemon=True).start()
        try:
            for event in ended:
                while not event.wait(_GLANCE_SECONDS):
                    continue
        except BaseException:
            self._stop()
            for event in ended:
                event.wait()
            raise
        if self._error is not None:
            raise self._error

    def _serve(self, number: int, ended: threading.Event) -> None:
        try:
            while not self._stopped.is_set() and not self._todo.empty():
                with Worker(f"reproduction {number + 1}", {}, module=self._module) as worker, ExitStack() as registered:
                    with self._lock:
                        self._workers.append(worker)
                    registered.callback(self._forget, worker)
                    self._feed(worker)
        except BaseException as error:  # of a thread: handed to whoever waits for all of them
            self._error = error
            self._stop()
        finally:
            ended.set()

    def _feed(self, worker: Worker) -> None:
        """Until there is nothing left to do, or the worker has died over a message; then another one takes its place."""
        while not self._stopped.is_set():
            try:
                message = self._todo.get_nowait()
            except Empty:
                return
            try:
                answer = worker.ask(message)
            except TutelageError as error:
                answer = {"died": str(error)}
            with self._lock:
                if self._stopped.is_set():
                    return
                self._done(message, answer)
            if "died" in answer:
                return

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            self._workers.remove(worker)

    def _stop(self) -> None:
        self._stopped.set()
        with self._lock:
            for worker in self._workers:
                with suppress(ProcessLookupError):
                    worker.stop()
