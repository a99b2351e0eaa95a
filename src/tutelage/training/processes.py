"""Several processes that share one step: what they tell each other. Without any others, nothing happens here.

Every process holds some of a step's rollouts. Denominators are counted over all of them (`gather`), so each process's loss is a
share of one sum, and gradients are added up, never averaged.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter


def several() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather(local: Float[Tensor, " local"]) -> Float[Tensor, " all"]:
    """Vectors of all processes behind one another, by rank; their lengths may differ. See `types.Gather`."""
    if not several():
        return local
    lengths = torch.zeros(dist.get_world_size(), dtype=torch.long, device=local.device)
    lengths[dist.get_rank()] = len(local)
    dist.all_reduce(lengths)
    padded = local.new_zeros(int(lengths.max()))
    padded[: len(local)] = local
    found = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(found, padded)
    return torch.cat([part[:length] for part, length in zip(found, lengths.tolist(), strict=True)])


@torch.no_grad()
def add_up_gradients(parameters: Iterable[Parameter]) -> None:
    """Replace each gradient by its sum over all processes; a process without one, for want of rows, adds nothing."""
    if not several():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
