"""One token per row of logits: which entries are kept, and a draw that one uniform number decides."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.rollouts.sources import Sampling

_BLOCK = 128  # entries of the vocabulary that are summed before the running sum
_CANDIDATES = 1024  # likeliest entries that are looked at first for a nucleus; sorting a whole vocabulary is 60 times slower


def uniforms(seed: int, index: int, count: int) -> np.ndarray:
    """`count` draws in [0, 1) that belong to one prompt of a call, whatever batch it lands in."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index]))).random(count)


def draw(
    logits: Float[Tensor, "row vocab"], sampling: Sampling, chance: Float[Tensor, " row"]
) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
    """One token per row, and its log-probability in nats.

    Args:
        logits: In float32.
        sampling: Temperature, top-k and top-p, applied in this order. At temperature 0 the likeliest token is taken, and its
            log-probability is that at temperature 1.
        chance: Uniform in [0, 1), in float64: the place in the cumulative distribution that is hit.
    """
    if sampling.temperature == 0.0:
        chosen = logits.argmax(-1, keepdim=True)
        return chosen.squeeze(-1), (logits.gather(-1, chosen) - logits.logsumexp(-1, keepdim=True)).squeeze(-1)
    kept, ids = _kept(logits if sampling.temperature == 1.0 else logits / sampling.temperature, sampling)
    log_probs = kept - kept.logsumexp(-1, keepdim=True)
    place = _inverse(log_probs.exp(), chance.double()).unsqueeze(-1)
    chosen = place if ids is None else ids.gather(-1, place)
    return chosen.squeeze(-1), log_probs.gather(-1, place).squeeze(-1)


def distribution(logits: Float[Tensor, "row vocab"], sampling: Sampling) -> Float[Tensor, "row vocab"]:
    """Log-probabilities in nats of the distribution that `draw` draws from; -inf for what it never draws.

    At temperature 0 all mass lies on the likeliest token, although `draw` reports its log-probability at temperature 1.
    """
    if sampling.temperature == 0.0:
        return torch.full_like(logits, float("-inf")).scatter_(-1, logits.argmax(-1, keepdim=True), 0.0)
    kept, ids = _kept(logits / sampling.temperature, sampling)
    log_probs = kept.log_softmax(-1)
    return log_probs if ids is None else torch.full_like(logits, float("-inf")).scatter_(-1, ids, log_probs)


def _kept(
    logits: Float[Tensor, "row vocab"], sampling: Sampling
) -> tuple[Float[Tensor, "row kept"], Int[Tensor, "row kept"] | None]:
    """Logits that may be drawn, with their ids where they are not in the vocabulary's order; -inf is never drawn."""
    vocab = logits.shape[-1]
    by_rank = 0 < sampling.top_k < vocab
    if sampling.top_p == 1.0:
        return logits.topk(sampling.top_k, dim=-1) if by_rank else (logits, None)
    count = sampling.top_k if by_rank else min(_CANDIDATES, vocab)
    values, ids = logits.topk(count, dim=-1)
    total = (values if by_rank else logits).logsumexp(-1, keepdim=True)
    while not by_rank and count < vocab and bool(((values - total).exp().sum(-1) < sampling.top_p).any()):
        count = min(8 * count, vocab)
        values, ids = logits.topk(count, dim=-1)
    mass = (values - total).double().exp()
    outside = mass.cumsum(-1) - mass >= sampling.top_p  # the entry that crosses the bound is inside
    outside[:, 0] = False
    return values.masked_fill(outside, float("-inf")), ids


def _inverse(probabilities: Float[Tensor, "row kept"], chance: Float[Tensor, " row"]) -> Int[Tensor, " row"]:
    """Index of the entry in which the running sum passes `chance`, in float64, without a running sum over all entries."""
    size = probabilities.shape[-1]
    whole = size - size % _BLOCK
    blocks = probabilities[:, :whole].unflatten(-1, (whole // _BLOCK, _BLOCK)).sum(-1)
    rest = probabilities[:, whole:].sum(-1, keepdim=True)
    block, inside = _locate(torch.cat([blocks, rest], dim=-1), chance)
    offsets = block.unsqueeze(-1) * _BLOCK + torch.arange(_BLOCK, device=block.device)
    entries = probabilities.gather(-1, offsets.clamp(max=size - 1)).masked_fill(offsets >= size, 0.0)
    # Nothing lies beyond the last entry unless the logits were not finite, which the sampler finds and refuses.
    return (block * _BLOCK + _locate(entries, inside)[0]).clamp(max=size - 1)


def _locate(masses: Float[Tensor, "row entry"], chance: Float[Tensor, " row"]) -> tuple[Int[Tensor, " row"], Tensor]:
    """The entry that is hit, and where in it, as a fraction in [0, 1). An entry without mass is never hit."""
    masses = masses.double()
    running = masses.cumsum(-1)
    goal = (chance * running[:, -1]).unsqueeze(-1)
    entry = torch.searchsorted(running, goal, right=True).clamp(max=masses.shape[-1] - 1)
    mass = masses.gather(-1, entry)
    fraction = ((goal - running.gather(-1, entry) + mass) / mass).clamp(0.0, 1.0 - 2.0**-53)
    return entry.squeeze(-1), fraction.squeeze(-1)
