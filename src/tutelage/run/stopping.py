"""Ending a run when the system asks: finish the step, save, say so."""

import logging
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

_LOG = logging.getLogger(__name__)


@contextmanager
def stop_on_signals() -> Generator[Callable[[], bool]]:
    """Yields a function that says whether SIGINT or SIGTERM has arrived.

    The first signal lets the step end and the state be saved; a second one ends the program as usual. Outside the main
    thread no signal can be received, and the function stays False.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        _LOG.warning("%s: finishing this step, then saving. Send it again to end at once.", signal.Signals(number).name)
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
