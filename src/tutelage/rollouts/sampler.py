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

from tutelage.errors import DataError, NumericsError
from tutelage.models import LanguageModel
from tutelage.rollouts.drawing import draw, uniforms
from tutelage.rollouts.sources import Sampling
from tutelage.types import FinishReason

_LOGITS_AT_ONCE = 2**24  # entries; 64 MiB in float32
_IDLE_SHARE = 8  # a batch is compacted when one row in so many has finished, because that copies its whole cache


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
            max_new_tokens: A bound per prompt, where it is not the same for all; 0 gives an empty response.

        Raises:
            DataError: A prompt has no tokens, or does not fit into the model's context together with its response.
            NumericsError: The model's logits are not finite.
        """
        ...


@final
class CachedSampler:
    """A plain decoding loop over length-sorted batches; finished responses leave the batch."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        vocab: int,
        stop_token_ids: frozenset[int],
        batch_tokens: int = 65536,
        autocast: torch.dtype | None = None,
    ) -> None:
        """Sample from a model.

        Args:
            model: Its weights as they are at each call.
            vocab: Only ids below it are ever drawn.
            stop_token_ids: Ids that end a response.
            batch_tokens: Bound on prompt and response tokens of one batch, which bounds the cache.
            autocast: Arithmetic of the forward where it is not that of the weights.
        """
        self._model, self._vocab, self._batch_tokens, self._autocast = model, vocab, batch_tokens, autocast
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
        lengths = [len(prompt) for prompt in prompts]
        _require_room(lengths, limits, self._model)
        done: dict[int, Sample] = {index: _EMPTY for index, limit in enumerate(limits) if limit == 0}
        training = self._model.model.training
        self._model.model.eval()
        try:
            with torch.autocast(self._model.device.type, dtype=self._autocast, enabled=self._autocast is not None):
                for group in _batches(lengths, limits, budget_tokens=self._batch_tokens):
                    done.update(self._decode(group, prompts, limits, sampling, seed))
        finally:
            self._model.model.train(training)
        return [done[index] for index in range(len(prompts))]

    def _decode(
        self, group: list[int], prompts: Sequence[Sequence[int]], limits: Sequence[int], sampling: Sampling, seed: int
    ) -> dict[int, Sample]:
        from transformers import DynamicCache

        device, longest = self._model.device, max(limits[index] for index in group)
        ids, mask = (part.to(device) for part in _left_padded([prompts[index] for index in group], room=longest))
        width = ids.shape[1]
        positions = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
        chance = torch.from_numpy(np.stack([uniforms(seed, index, longest) for index in group])).to(device)
        written = _Written.blank([limits[index] for index in group], device)
        cache, stops = DynamicCache(config=self._model.config), self._stops.to(device)
        rows = torch.arange(len(group), device=device)  # those of the group that are still in the batch
        going = torch.ones_like(rows, dtype=torch.bool)
        for time in range(longest):
            seen = mask[:, : width + time]
            states = self._model.forward_backbone(
                input_ids=ids, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            chosen, log_probs = self._next(states, sampling, chance[rows, time])
            going = written.add(time, rows, going, chosen, log_probs, stops)
            left = int(going.sum())
            if left == 0:
                break
            positions = positions[:, -1:] + going.unsqueeze(-1)  # a finished row stays at a position that the model has
            if (len(rows) - left) * _IDLE_SHARE >= len(rows):
                keep = going.nonzero().squeeze(-1)
                cache.batch_select_indices(keep)
                rows, going, chosen, mask, positions = (part[keep] for part in (rows, going, chosen, mask, positions))
            ids = chosen.unsqueeze(-1)
        return written.samples(group)

    def _next(
        self, states: Float[Tensor, "row width"], sampling: Sampling, chance: Float[Tensor, " row"]
    ) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
        """One token per row, with the logits of few rows at a time."""
        rows = max(1, _LOGITS_AT_ONCE // self._vocab)
        drawn = [
            draw(self._model.logits(part, self._vocab), sampling, luck)
            for part, luck in zip(states.split(rows), chance.split(rows), strict=True)
        ]
        return torch.cat([chosen for chosen, _ in drawn]), torch.cat([log_probs for _, log_probs in drawn])


_EMPTY = Sample(token_ids=torch.zeros(0, dtype=torch.long), log_probs=torch.zeros(0), finish="length")


@dataclass(slots=True, eq=False)
class _Written:
    """What the rows of a group have written so far."""

    tokens: Int[Tensor, "row time"]
    log_probs: Float[Tensor, "row time"]
    lengths: Int[Tensor, " row"]
    limits: Int[Tensor, " row"]
    stopped: Bool[Tensor, " row"]

    @staticmethod
    def blank(limits: Sequence[int], device: torch.device) -> "_Written":
        count, longest = len(limits), max(limits)
        return _Written(
            tokens=torch.zeros(count, longest, dtype=torch.long, device=device),
            log_probs=torch.zeros(count, longest, device=device),
            lengths=torch.zeros(count, dtype=torch.long, device=device),
            limits=torch.tensor(limits, device=device),
            stopped=torch.zeros(count, dtype=torch.bool, device=device),
        )

    def add(
        self,
        time: int,
        rows: Int[Tensor, " row"],
        going: Bool[Tensor, " row"],
        chosen: Int[Tensor, " row"],
        log_probs: Float[Tensor, " row"],
        stops: Int[Tensor, " stop"],
    ) -> Bool[Tensor, " row"]:
        """Note a token per row; which rows go on. What a finished row draws lies beyond its length and is never read."""
        self.tokens[rows, time], self.log_probs[rows, time] = chosen, log_probs
        self.lengths[rows] += going
        ends = going & torch.isin(chosen, stops)
        self.stopped[rows] |= ends
        return going & ~ends & (self.limits[rows] > time + 1)

    def samples(self, group: Sequence[int]) -> dict[int, Sample]:
        """By place in the call.

        Raises:
            NumericsError: A log-probability is not finite.
        """
        tokens, log_probs = self.tokens.cpu(), self.log_probs.cpu()
        lengths, stopped = self.lengths.tolist(), self.stopped.tolist()
        for row, index in enumerate(group):
            broken = (~log_probs[row, : lengths[row]].isfinite()).nonzero()
            if len(broken):
                raise NumericsError(
                    f"The model's logits are not finite for prompt {index} of this call, at response token {int(broken[0])}: "
                    "its weights hold NaN or infinity, or its arithmetic overflows. Go back to an earlier checkpoint with a "
                    "lower learning rate, or use bfloat16 or float32 instead of float16."
                )
        return {
            index: Sample(
                token_ids=tokens[row, : lengths[row]].clone(),
                log_probs=log_probs[row, : lengths[row]].clone(),
                finish="stop" if stopped[row] else "length",
            )
            for row, index in enumerate(group)
        }


def _batches(lengths: Sequence[int], limits: Sequence[int], *, budget_tokens: int) -> list[list[int]]:
    """Indices in groups of similar size, longest first; padded to its longest prompt and response, a group fits the budget."""
    groups: list[list[int]] = []
    prompt = response = 0
    pending = [index for index, limit in enumerate(limits) if limit > 0]
    for index in sorted(pending, key=lambda i: (-limits[i], -lengths[i], i)):
        prompt, response = max(prompt, lengths[index]), max(response, limits[index])
        if groups and (len(groups[-1]) + 1) * (prompt + response) <= budget_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
            prompt, response = lengths[index], limits[index]
    return groups


def _left_padded(
    prompts: Sequence[Sequence[int]], *, room: int
) -> tuple[Int[Tensor, "rollout prompt"], Int[Tensor, "rollout time"]]:
    """Ids that end at the same column; and where they are real, with `room` further columns, which will be."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.ones(len(prompts), longest + room, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        start = longest - len(prompt)
        ids[row, start:] = torch.tensor(prompt, dtype=torch.long)
        mask[row, :start] = 0
    return ids, mask


def _require_room(lengths: Sequence[int], limits: Sequence[int], model: LanguageModel) -> None:
    context = model.max_context
    for index, (length, limit) in enumerate(zip(lengths, limits, strict=True)):
        if length == 0:
            raise DataError(
                f"Prompt {index} of this call has no tokens, so there is nothing that the first token could follow. Drop the "
                "row, or start prompts with the tokenizer's beginning of sequence."
            )
        if context is not None and length + limit > context:
            raise DataError(
                f"Prompt {index} of this call has {length} tokens and its response may have {limit}, but {model.name!r} reads "
                f"at most {context}. Lower max_new_tokens, or drop the longest prompts."
            )
