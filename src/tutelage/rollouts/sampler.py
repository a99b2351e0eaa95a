"""Drawing tokens from a model in process, with a key-value cache of our own batches.

A response depends on the seed, the prompt's place in the call, and the prompt; not on how prompts were batched or sorted.
"""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.models import LanguageModel
from tutelage.rollouts.decoding import Next, Reader, batches, decode, require_room, without_dropout
from tutelage.rollouts.drawing import draw
from tutelage.rollouts.samples import Sample, Sampler
from tutelage.rollouts.sources import Sampling

__all__ = ["CachedSampler", "Sample", "Sampler"]

_LOGITS_AT_ONCE = 2**24  # entries; 64 MiB in float32


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
        model = self._model
        limits = list(max_new_tokens) if max_new_tokens is not None else [sampling.max_new_tokens] * len(prompts)
        lengths = [len(prompt) for prompt in prompts]
        require_room(lengths, limits, context=model.max_context, name=model.name)
        done: dict[int, Sample] = {index: EMPTY for index, limit in enumerate(limits) if limit == 0}
        stops = self._stops.to(model.device)

        def following(
            states: Sequence[Float[Tensor, "row _"]], places: Int[Tensor, " row"], chance: Float[Tensor, " row"]
        ) -> Next:
            return self._next(states[0], sampling, chance)

        arithmetic = torch.autocast(model.device.type, dtype=self._autocast, enabled=self._autocast is not None)
        with without_dropout(model), arithmetic:
            for group in batches(lengths, limits, budget_tokens=self._batch_tokens):
                reader = Reader(model, [prompts[index] for index in group], room=max(limits[index] for index in group))
                done.update(decode(group, [reader], following, limits=limits, seed=seed, stops=stops))
        return [done[index] for index in range(len(prompts))]

    def _next(self, states: Float[Tensor, "row width"], sampling: Sampling, chance: Float[Tensor, " row"]) -> Next:
        """One token per row, with the logits of few rows at a time."""
        rows = max(1, _LOGITS_AT_ONCE // self._vocab)
        drawn = [
            draw(self._model.logits(part, self._vocab), sampling, luck)
            for part, luck in zip(states.split(rows), chance.split(rows), strict=True)
        ]
        return Next(tokens=torch.cat([token for token, _ in drawn]), log_probs=torch.cat([value for _, value in drawn]))


EMPTY = Sample(token_ids=torch.zeros(0, dtype=torch.long), log_probs=torch.zeros(0), finish="length")
"""Where nothing may be written."""
