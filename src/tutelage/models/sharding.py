"""Weights that lie in parts on several processes (FSDP2), seen as one."""

from typing import overload

from torch import Tensor


@overload
def whole(parameter: Tensor) -> Tensor: ...
@overload
def whole(parameter: None) -> None: ...
def whole(parameter: Tensor | None) -> Tensor | None:
    """The whole tensor; its gradient goes back to the parts, summed over the processes.

    A plain tensor is returned as it is. The head of a model is used outside of the model's forward, where FSDP2 does not put
    its parts together; and each process has the gradient of its own rows only, so the default, which takes the gradient for
    equal on all of them, would drop the others' share.
    """
    from torch.distributed.tensor import DTensor, Partial

    if not isinstance(parameter, DTensor):
        return parameter
    return parameter.full_tensor(grad_placements=[Partial()] * parameter.device_mesh.ndim)
