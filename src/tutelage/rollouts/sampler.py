"""Drawing tokens from a model in process, with a key-value cache of our own batches.

A response depends on the seed, the prompt's place in the call, and the prompt; not on how prompts were batched or sorted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.models import LanguageModel
from tutelage.rollouts.sources import Sampling
from tutelage.types import FinishReason


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One response as it was drawn."""

    token_ids: Int[Tensor, " time"]
    """Includes the stop token where `finish` is `stop`; on the CPU."""
    log_probs: Float[Tensor, " time"]
    """In nats under the distribution that was drawn from, after temperature, top-k and top-p. Greedy tokens, which are not
    drawn, carry their log-probability at temperature 1."""
    finish: FinishReason


@runtime_checkable
class Sampler(Protocol):
    """Writes one response per prompt."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        max_new_tokens: Sequence[int] | None = None,
    ) -> list[Sample]:
        """Responses in the order of the prompts.

        Args:
            prompts: Token ids.
            sampling: How tokens are drawn; `n` is the caller's to apply.
            seed: Together with a prompt's place in the call it decides all draws.
            max_new_tokens: A bound per prompt, where it is not the same for all.
        """
        ...


@final
class CachedSampler:
    """A plain decoding loop over length-sorted batches; finished responses leave the batch at once."""

    def __init__(self, model: LanguageModel, *, vocab: int, stop_token_ids: frozenset[int], batch_tokens: int = 65536) -> None:
        """Sample from a model.

        Args:
            model: Its weights as they are at each call.
            vocab: Only ids below it are ever drawn.
            stop_token_ids: Ids that end a response.
            batch_tokens: Bound on prompt and response tokens of one batch, which bounds the cache.
        """
        self._model, self._vocab, self._batch_tokens = model, vocab, batch_tokens
        self._stops = torch.tensor(sorted(stop_token_ids), dtype=torch.long)

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        max_new_tokens: Sequence[int] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`."""
        limits = list(max_new_tokens) if max_new_tokens is not None else [sampling.max_new_tokens] * len(prompts)
        done: dict[int, Sample] = {index: _EMPTY for index, limit in enumerate(limits) if limit == 0}
        training = self._model.model.training
        self._model.model.eval()
        try:
            for group in self._batches([len(prompt) for prompt in prompts], limits):
                done.update(self._decode(group, prompts, limits, sampling, seed))
        finally:
            self._model.model.train(training)
        return [done[index] for index in range(len(prompts))]

    def _batches(self, lengths: Sequence[int], limits: Sequence[int]) -> list[list[int]]:
        """Groups of similar total length within the budget, longest first."""
        groups: list[list[int]] = []
        width = 0
        pending = [index for index, limit in enumerate(limits) if limit > 0]
        for index in sorted(pending, key=lambda i: (-limits[i], -lengths[i], i)):
            width = max(width, lengths[index] + limits[index]) if groups else lengths[index] + limits[index]
            if groups and (len(groups[-1]) + 1) * width <= self._batch_tokens:
                groups[-1].append(index)
            else:
                groups.append([index])
                width = lengths[index] + limits[index]
        return groups

    def _decode(
        self, group: list[int], prompts: Sequence[Sequence[int]], limits: Sequence[int], sampling: Sampling, seed: int
    ) -> dict[int, Sample]:
        from transformers import DynamicCache

        device, longest = self._model.device, max(limits[index] for index in group)
        ids, mask = _left_padded([prompts[index] for index in group])
        ids, mask = ids.to(device), mask.to(device)
        uniforms = torch.from_numpy(np.stack([_uniforms(seed, index, longest) for index in group])).to(device)
        bounds = torch.tensor([limits[index] for index in group], device=device)
        stops = self._stops.to(device)
        tokens = torch.zeros(len(group), longest, dtype=torch.long, device=device)
        log_probs = torch.zeros(len(group), longest, dtype=torch.float32, device=device)
        lengths = torch.zeros(len(group), dtype=torch.long, device=device)
        stopped = torch.zeros(len(group), dtype=torch.bool, device=device)
        active, cache = torch.arange(len(group), device=device), DynamicCache()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        for time in range(longest):
            states = self._model.forward_backbone(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            chosen, chosen_log_probs = _draw(self._model.logits(states, self._vocab), sampling, uniforms[active, time])
            tokens[active, time], log_probs[active, time] = chosen, chosen_log_probs
            lengths[active] = time + 1
            ends = torch.isin(chosen, stops)
            stopped[active] = ends
            going = ~(ends | (bounds[active] == time + 1))
            if not going.any():
                break
            if not going.all():
                keep = going.nonzero().squeeze(-1)
                cache.batch_select_indices(keep)
                active, chosen, mask, positions = active[keep], chosen[keep], mask[keep], positions[keep]
            ids = chosen.unsqueeze(-1)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=-1)
            positions = positions[:, -1:] + 1
        return _collect(group, tokens.cpu(), log_probs.cpu(), lengths.tolist(), stopped.tolist())


_EMPTY = Sample(token_ids=torch.zeros(0, dtype=torch.long), log_probs=torch.zeros(0), finish="length")


def _collect(group: list[int], tokens: Tensor, log_probs: Tensor, lengths: list[int], stopped: list[bool]) -> dict[int, Sample]:
    return {
        index: Sample(
            token_ids=tokens[row, : lengths[row]].clone(),
            log_probs=log_probs[row, : lengths[row]].clone(),
            finish="stop" if stopped[row] else "length",
        )
        for row, index in enumerate(group)
    }


def _left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "rollout time"], Int[Tensor, "rollout time"]]:
    """Ids that end at the same column, and where they are real."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def _uniforms(seed: int, index: int, count: int) -> np.ndarray:
    """Uniform draws in [0, 1) that belong to one prompt, whatever batch it lands in."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index]))).random(count)


def _draw(
    logits: Float[Tensor, "rollout vocab"], sampling: Sampling, uniforms: Float[Tensor, " rollout"]
) -> tuple[Int[Tensor, " rollout"], Float[Tensor, " rollout"]]:
    """One token per row by inverting the cumulative distribution, with its log-probability."""
    if sampling.temperature == 0.0:
        chosen = logits.argmax(-1)
        return chosen, logits.log_softmax(-1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    log_probs = _filtered(logits / sampling.temperature, sampling).log_softmax(-1)
    cumulative = log_probs.double().exp().cumsum(-1)  # float32 sums drift by more than a rare token's mass
    threshold = (uniforms.double() * cumulative[:, -1]).unsqueeze(-1)
    chosen = torch.searchsorted(cumulative, threshold, right=True).clamp(max=logits.shape[-1] - 1)
    return chosen.squeeze(-1), log_probs.gather(-1, chosen).squeeze(-1)


def _filtered(logits: Float[Tensor, "rollout vocab"], sampling: Sampling) -> Float[Tensor, "rollout vocab"]:
    """Logits with everything outside top-k, and then outside top-p, at -inf."""
    if 0 < sampling.top_k < logits.shape[-1]:
        lowest = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < lowest, float("-inf"))
    if sampling.top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        outside: Bool[Tensor, "rollout vocab"] = probabilities.cumsum(-1) - probabilities >= sampling.top_p
        logits = logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), float("-inf"))
    return logits
