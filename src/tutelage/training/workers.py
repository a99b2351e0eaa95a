"""A thread for each stage that works beside the updates."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any, TypeVar, final

_LOG = logging.getLogger(__name__)
_Found = TypeVar("_Found")

GRACE_SECONDS = 60.0
"""How long a run that ends waits for what a stage is doing."""


@final
class Worker:
    """Does its tasks one after another, and none any more after one that failed."""

    def __init__(self, name: str) -> None:
        """Start a thread of that name; it does not keep the program alive."""
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tutelage-{name}", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], _Found]) -> Future[_Found]:
        """A task to be done after those before it; its future is cancelled if it is never begun."""
        future: Future[_Found] = Future()
        self._tasks.put((future, task))
        return future

    def stop(self) -> None:
        """Begin no further task."""
        self._over.set()
        self._tasks.put(None)

    def join(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Wait for the present task, but not for ever."""
        self._thread.join(grace_seconds)
        if self._thread.is_alive():
            _LOG.warning("%s still works after %g s; its work is given up.", self._thread.name, grace_seconds)

    def _run(self) -> None:
        while (entry := self._tasks.get()) is not None:
            self._do(*entry)
            del entry  # while it waits for the next task, the last one and its weights need not stay

    def _do(self, future: Future[Any], task: Callable[[], Any]) -> None:
        if self._over.is_set():
            future.cancel()
            return
        try:
            future.set_result(task())
        except BaseException as error:  # whoever asks for the result gets it, also where it would end a thread
            self._over.set()
            if not isinstance(error, CancelledError):
                _LOG.warning("%s failed (%s); what was finished before is trained on first.", self._thread.name, error)
            future.set_exception(error)
