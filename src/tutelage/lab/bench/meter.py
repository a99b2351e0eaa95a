"""Time and memory of a stretch of work in this process."""

import ctypes
import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

_STATM, _STATUS, _REFS = Path("/proc/self/statm"), Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MIB = 2**20
_PAUSE_SECONDS = 0.01
_SLACK = 8 * _MIB
"""By how much the kernel's mark may differ from the memory at hand right after it was reset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a stretch of work took."""

    wall_seconds: float
    cpu_seconds: float
    """Of all threads of the process."""
    peak_mib: float | None
    """Highest resident memory of the process; None where the system does not tell."""
    extra_mib: float | None
    """The same above what was resident when the work began."""


@final
class Meter:
    """Started and stopped around a stretch of work."""

    def start(self) -> None:
        """Begin. What was freed before goes back to the system first, so that taking it again counts."""
        gc.collect()
        _trim()
        self._before = _resident()
        self._marked = self._before is not None and _reset_mark(self._before)
        self._sampler = None if self._before is None or self._marked else _Sampler()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> Reading:
        """End."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        if self._before is None:
            return Reading(wall_seconds=wall, cpu_seconds=cpu, peak_mib=None, extra_mib=None)
        peak = _mark() if self._sampler is None else self._sampler.stop()
        return Reading(wall_seconds=wall, cpu_seconds=cpu, peak_mib=peak / _MIB, extra_mib=max(0, peak - self._before) / _MIB)


@final
class _Sampler:
    """Looks at the resident memory a hundred times a second, where the kernel's own mark cannot be reset."""

    def __init__(self) -> None:
        self._peak, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while True:
            self._peak = max(self._peak, _resident() or 0)
            if self._over.wait(_PAUSE_SECONDS):
                return


def _resident() -> int | None:
    """Bytes; None outside Linux."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError, IndexError):
        return None


def _mark() -> int:
    """The kernel's mark of the highest resident memory, in bytes."""
    return int(_STATUS.read_text().split("VmHWM:")[1].split()[0]) * 1024


def _reset_mark(resident: int) -> bool:
    """Whether the kernel's mark could be brought down to the memory at hand; not every container allows it."""
    try:
        _REFS.write_text("5")
        return abs(_mark() - resident) < _SLACK
    except (OSError, IndexError):
        return False


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # not the C library that has it
        return
