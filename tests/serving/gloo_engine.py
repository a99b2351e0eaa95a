"""Runs inside vLLM's worker: its weight-transfer engine `nccl` with gloo in NCCL's place, so that a processor can take part.

A plug-in of the servers that `with_servers.py` starts. Everything but the group's own calls is vLLM's: how packs are cut and
taken apart, how the weights are loaded. Imports only what the server's environment has.
"""

from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import torch
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore

LIMIT = timedelta(seconds=60)


class Communicator:
    """Stands for vLLM's communicator."""

    def __init__(self, port: int, rank: int, size: int) -> None:
        self._group = ProcessGroupGloo(TCPStore("127.0.0.1", port, size, False, timeout=LIMIT), rank, size, LIMIT)

    def broadcast(self, tensor: torch.Tensor, src: int, stream: object = None) -> None:
        options = BroadcastOptions()
        options.rootRank = src
        self._group.broadcast([tensor], options).wait()

    def destroy(self) -> None:
        """Goes with the object."""


class NoStreams:
    """PyTorch as the engine uses it, without a GPU's streams."""

    cuda = SimpleNamespace(stream=lambda stream: nullcontext())
    accelerator = SimpleNamespace(current_device_index=lambda: 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def register() -> None:
    """Put the engine in the place of the one that needs a GPU."""
    from vllm.distributed.weight_transfer import packed_tensor
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
    from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine

    class GlooEngine(NCCLWeightTransferEngine):
        def init_transfer_engine(self, init_info: Any) -> None:
            self.packed = init_info.packed
            self.packed_buffer_size_bytes = init_info.packed_buffer_size_bytes
            self.packed_num_buffers = init_info.packed_num_buffers
            self.model_update_group = Communicator(init_info.master_port, init_info.rank_offset, init_info.world_size)

    packed_tensor.torch = NoStreams()
    packed_tensor._get_streams = lambda index, count: (SimpleNamespace(synchronize=lambda: None),) * count
    WeightTransferEngineFactory._registry["nccl"] = lambda: GlooEngine
