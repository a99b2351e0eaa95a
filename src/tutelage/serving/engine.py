"""Weights from GPU to GPU: vLLM's own weight-transfer engine `nccl`, with this process as rank 0 of a group with its workers.

The server is told what comes (names, types, shapes, in order), and the tensors' bytes follow in packs, by broadcast. The
workers of vLLM join by a unique id of NCCL, which PyTorch makes and joins by itself, so nothing of vLLM is imported here.

This path has not been run on a GPU. What it says to the server, and what it broadcasts, is tested over `gloo`.
"""

import base64
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from tutelage.errors import ConfigError, ServerError
from tutelage.serving.control import Control
from tutelage.serving.transfer import Weights

_LOG = logging.getLogger(__name__)

BACKEND = "nccl"
"""The engine that the server must have been started with."""
FLAG = f"""--weight-transfer-config '{{"backend": "{BACKEND}"}}'"""
PACK_BYTES = 256 * 2**20
"""A pack ends with the tensor with which it grows beyond this."""
_WAIT_SECONDS = 60.0
"""For this side to be done after the server has said that it is."""


@runtime_checkable
class Group(Protocol):
    """This process, which is rank 0, and the server's workers."""

    @property
    def invitation(self) -> Mapping[str, Any]:
        """How the workers find the group: fields of the engine's initialisation."""
        ...

    def join(self, size: int) -> None:
        """Wait until all `size` members are there."""
        ...

    def broadcast(self, pack: UInt8[Tensor, " byte"]) -> None:
        """Give bytes to every worker; they may still be under way afterwards, and keep the order of the calls."""
        ...

    def settle(self) -> None:
        """Wait until all of it has arrived."""
        ...


@final
class NcclGroup:
    """Over NCCL, on the GPU of the student."""

    def __init__(self, device: torch.device) -> None:
        """Make an id for the group.

        Raises:
            ConfigError: The student is not on a GPU, or PyTorch has no NCCL.
        """
        if device.type != "cuda" or not hasattr(torch._C, "_nccl_init_rank"):
            raise ConfigError(
                f"sampler.transfer is 'nccl', which broadcasts from GPU to GPU, and the student lies on {str(device)!r} "
                f"(PyTorch {torch.__version__}). Train on a GPU with a PyTorch that has NCCL, or hand the weights over by a "
                "folder: --sampler.transfer folder."
            )
        from torch.cuda import nccl

        self._nccl, self._device, self._communicator = nccl, device, None
        with torch.cuda.device(device):
            self._id: bytes = nccl.unique_id()

    @property
    def invitation(self) -> Mapping[str, Any]:
        """See `Group.invitation`."""
        return {"nccl_unique_id_b64": base64.b64encode(self._id).decode()}

    def join(self, size: int) -> None:
        """See `Group.join`."""
        with torch.cuda.device(self._device):
            self._communicator = self._nccl.init_rank(size, self._id, 0)
            # vLLM's workers sum one number to warm up as soon as they are in, and wait for everybody to take part.
            self._nccl.all_reduce([torch.zeros(1, device=self._device)], comms=[self._communicator])
            self.settle()

    def broadcast(self, pack: UInt8[Tensor, " byte"]) -> None:
        """See `Group.broadcast`."""
        with torch.cuda.device(self._device):
            self._nccl.broadcast([pack], comms=[self._communicator])

    def settle(self) -> None:
        """See `Group.settle`."""
        torch.cuda.current_stream(self._device).synchronize()


@final
class ByEngine:
    """The weights are broadcast to the server's workers."""

    def __init__(self, control: Control, group: Group) -> None:
        """Form the group with the workers.

        Raises:
            ServerError: The server was not started for it, or does not join.
        """
        if control.engine != BACKEND:
            raise ServerError(
                f"sampler.transfer is 'nccl', and {control.url} was started with the weight-transfer engine "
                f"{control.engine!r}. Start it with {FLAG}, on another GPU than the student's, or hand the weights over by a "
                "folder: --sampler.transfer folder."
            )
        self._control, self._group = control, group
        size = int(control.get("/get_world_size")["world_size"]) + 1
        terms = {
            **group.invitation,
            "rank_offset": 1,
            "world_size": size,
            "packed": True,
            "packed_buffer_size_bytes": PACK_BYTES,
        }
        self._together("/init_weight_transfer_engine", {"init_info": terms}, lambda: group.join(size))
        _LOG.warning("Weights go to %s by its engine %r. This way has not been tried on a GPU.", control.url, BACKEND)

    def give(self, model: Weights) -> None:
        """See `Transfer.give`."""
        tensors = model.checkpoint_tensors()
        self._control.exchange(lambda: self._send(tensors))

    @property
    def remedy(self) -> str:
        """See `Transfer.remedy`."""
        return (
            "Does the server serve the student's architecture, and is it not quantised? Do both environments have the same "
            "NCCL? --sampler.transfer folder takes the way that is tried."
        )

    def _send(self, tensors: Mapping[str, Tensor]) -> None:
        described = {
            "names": list(tensors),
            "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()],
            "shapes": [list(tensor.shape) for tensor in tensors.values()],
        }
        self._control.post("/start_weight_update")
        self._together("/update_weights", {"update_info": described}, lambda: self._broadcast(tensors))
        self._control.post("/finish_weight_update")

    def _broadcast(self, tensors: Mapping[str, Tensor]) -> None:
        for pack in packs(tensors.values(), most_bytes=PACK_BYTES):
            self._group.broadcast(pack)
        self._group.settle()

    def _together(self, path: str, body: Any, act: Callable[[], None]) -> None:
        """Ask the server for its part while this side does its own, which waits for the server's and cannot be interrupted.

        So it is done by a thread that is left behind where the server fails.
        """
        failed: list[BaseException] = []

        def attempt() -> None:
            try:
                act()
            except Exception as error:
                failed.append(error)

        side = threading.Thread(target=attempt, name=f"weights {path}", daemon=True)
        side.start()
        try:
            self._control.post(path, body)
            side.join(_WAIT_SECONDS)
        except ServerError as error:
            reason = failed[0] if failed else error  # a side that fails lets the other one wait until its time is up
            raise self._broken(reason) from reason
        if failed or side.is_alive():
            raise self._broken(failed[0] if failed else f"this side is not done {_WAIT_SECONDS:.0f} s after the server was")

    def _broken(self, reason: object) -> ServerError:
        return ServerError(
            f"Weights could not be broadcast to {self._control.url}: {reason}. The group with the server's workers is broken: "
            "start the server again, and resume the run. Another way is --sampler.transfer folder."
        )


def packs(tensors: Iterable[Tensor], *, most_bytes: int) -> Iterator[UInt8[Tensor, " byte"]]:
    """The bytes of tensors one after the other, cut where vLLM's engine cuts them.

    Args:
        tensors: In the order in which they were announced.
        most_bytes: A pack ends with the tensor with which it grows beyond.
    """
    pack, size = list[Tensor](), 0
    for tensor in tensors:
        pack.append(tensor.detach().contiguous().view(-1).view(torch.uint8))
        size += pack[-1].numel()
        if size > most_bytes:
            yield torch.cat(pack)
            pack, size = [], 0
    if pack:
        yield torch.cat(pack)
