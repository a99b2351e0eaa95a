"""Time and memory of a stretch of work."""

import sys
import time

import pytest
import torch

from tutelage.lab.bench import meter
from tutelage.lab.bench.meter import Meter

SIZE = 64 * 2**20
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process")


def allocate() -> None:
    kept = torch.ones(SIZE // 4)
    time.sleep(0.05)  # long enough to be seen
    del kept


@on_linux
@pytest.mark.parametrize("by_looking", [False, True])
def test_memory_that_was_freed_before_the_end_counts(by_looking, monkeypatch):
    if by_looking:
        monkeypatch.setattr(meter, "_reset_mark", lambda resident: False)
    found = Meter()
    found.start()
    allocate()
    reading = found.stop()
    assert reading.extra_mib is not None
    assert reading.peak_mib is not None
    assert 60 <= reading.extra_mib <= 80
    assert reading.peak_mib > reading.extra_mib


def test_sleeping_takes_time_but_no_processor():
    found = Meter()
    found.start()
    time.sleep(0.2)
    reading = found.stop()
    assert reading.wall_seconds >= 0.2
    assert reading.cpu_seconds < 0.1


def test_a_system_that_tells_nothing_gives_no_memory(monkeypatch):
    monkeypatch.setattr(meter, "_resident", lambda: None)
    found = Meter()
    found.start()
    reading = found.stop()
    assert (reading.peak_mib, reading.extra_mib) == (None, None)
