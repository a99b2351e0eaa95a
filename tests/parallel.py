"""Several processes of one machine played by threads."""

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tutelage.objectives import Plan
from tutelage.types import Gather


def in_processes(works: Sequence[Callable[[Gather], Plan]]) -> list[Plan]:
    """Run each work as if it were one process; their gathers meet, and whoever calls too seldom breaks the others."""
    slots: list[Tensor] = [torch.empty(0)] * len(works)
    barrier = threading.Barrier(len(works), timeout=20.0)
    plans: dict[int, Plan] = {}

    def process(rank: int) -> None:
        def gather(local: Tensor) -> Tensor:
            slots[rank] = local
            barrier.wait()
            together = torch.cat(slots)
            barrier.wait()
            return together

        try:
            plans[rank] = works[rank](gather)
        except threading.BrokenBarrierError:
            return

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == len(works), "the processes called gather a different number of times"
    return [plans[rank] for rank in range(len(works))]
