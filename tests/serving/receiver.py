"""A process that takes part in a weight transfer as a worker of vLLM does, over gloo instead of NCCL.

It knows what the server is told and what the group brings, and writes what it took for the weights into a file.
"""

import math
import multiprocessing
import socket
from collections.abc import Mapping
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore

LIMIT = timedelta(seconds=60)


class GlooGroup:
    """A `Group` of processors: how its members find one another is what differs from NCCL."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.group: ProcessGroupGloo | None = None
        self.sizes: list[int] = []

    @property
    def invitation(self) -> Mapping[str, Any]:
        return {"master_address": "127.0.0.1", "master_port": self.port}

    def join(self, size: int) -> None:
        self.group = _group(self.port, 0, size)

    def broadcast(self, pack: torch.Tensor) -> None:
        assert self.group is not None
        self.sizes.append(pack.numel())
        _receive(self.group, pack)

    def settle(self) -> None:
        """Nothing is under way: gloo waits."""


def _group(port: int, rank: int, size: int) -> ProcessGroupGloo:
    store = TCPStore("127.0.0.1", port, size, rank == 0, timeout=LIMIT)
    return ProcessGroupGloo(store, rank, size, LIMIT)


def _receive(group: ProcessGroupGloo, pack: torch.Tensor) -> torch.Tensor:
    options = BroadcastOptions()
    options.rootRank = 0
    group.broadcast([pack], options).wait()
    return pack


class Worker:
    """Starts the process, and answers for the server what the process says."""

    def __init__(self, file: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.file = file
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, str(file)), daemon=True)
        self._process.start()

    def __call__(self, path: str, request: Any) -> tuple[int, Any]:
        self._pipe.send((path, request))
        return 200, {"message": self._pipe.recv()}

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, file: str) -> None:
    group, terms, active = None, dict[str, Any](), False
    while True:
        path, request = pipe.recv()
        match path:
            case "/init_weight_transfer_engine":
                terms = request["init_info"]
                assert terms["packed"]
                group = _group(terms["master_port"], terms["rank_offset"], terms["world_size"])
            case "/start_weight_update":
                assert not active
                active = True
            case "/update_weights":
                assert active
                assert group is not None
                save_file(_taken(group, request["update_info"], terms["packed_buffer_size_bytes"]), file)
            case "/finish_weight_update":
                active = False
        pipe.send("done")


def _taken(group: ProcessGroupGloo, told: Mapping[str, Any], most: int) -> dict[str, torch.Tensor]:
    found, waiting, size = dict[str, torch.Tensor](), list[tuple[str, torch.dtype, list[int]]](), 0
    rows = list(zip(told["names"], told["dtype_names"], told["shapes"], strict=True))
    for place, (name, kind, shape) in enumerate(rows):
        waiting.append((name, getattr(torch, kind), shape))
        size += math.prod(shape) * waiting[-1][1].itemsize
        if size > most or place == len(rows) - 1:
            content, start = bytes(_receive(group, torch.zeros(size, dtype=torch.uint8)).tolist()), 0
            for key, dtype, dims in waiting:
                count = math.prod(dims)
                found[key] = torch.frombuffer(bytearray(content), dtype=dtype, count=count, offset=start).clone().view(dims)
                start += count * dtype.itemsize
            waiting, size = [], 0
    return found
