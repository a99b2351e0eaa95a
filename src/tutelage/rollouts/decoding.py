"""The decoding loop: one token per row and step, for as many models as read along."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.errors import DataError, NumericsError
from tutelage.models import LanguageModel
from tutelage.rollouts.drawing import uniforms
from tutelage.rollouts.samples import Sample

_IDLE_SHARE = 8  # a batch is compacted when one row in so many has finished, because that copies its whole cache


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Next:
    """What follows in each row."""

    tokens: Int[Tensor, " row"]
    log_probs: Float[Tensor, " row"]
    cut: Bool[Tensor, " row"] | None = None
    """Rows that end here without an end of sequence; None where none does."""


Choose = Callable[[Sequence[Float[Tensor, "row _"]], Int[Tensor, " row"], Float[Tensor, " row"]], Next]
"""From each reader's last states, the rows' places in the call and their uniform numbers to what follows."""


@final
class Reader:
    """A model that reads along with a group of rows, with a cache of its own."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]], *, room: int, plain: bool = False) -> None:
        """Start before the prompts; `room` further tokens may follow them. `plain` computes in the type of the weights."""
        from transformers import DynamicCache

        self._model, self._plain = model, plain
        self._ids, self._mask = (part.to(model.device) for part in _left_padded(prompts, room=room))
        self._seen = self._ids.shape[1]
        self._positions = (self._mask[:, : self._seen].cumsum(-1) - 1).clamp(min=0)
        self._cache = DynamicCache(config=model.config)

    def states(self) -> Float[Tensor, "row width"]:
        """Hidden states that predict the next token of each row."""
        with torch.autocast(self._model.device.type, enabled=False) if self._plain else nullcontext():
            return self._model.forward_backbone(
                input_ids=self._ids,
                attention_mask=self._mask[:, : self._seen],
                position_ids=self._positions,
                past_key_values=self._cache,
                use_cache=True,
            ).last_hidden_state[:, -1]

    def follow(self, chosen: Int[Tensor, " row"], going: Bool[Tensor, " row"], keep: Int[Tensor, " kept"] | None) -> None:
        """Take the chosen tokens as the next to be read; only the rows in `keep` stay."""
        # a finished row stays at a position that the model has
        self._ids, self._positions = chosen.unsqueeze(-1), self._positions[:, -1:] + going.unsqueeze(-1)
        self._seen += 1
        if keep is not None:
            self._cache.batch_select_indices(keep)
            self._ids, self._mask, self._positions = (part[keep] for part in (self._ids, self._mask, self._positions))


def decode(
    group: Sequence[int],
    readers: Sequence[Reader],
    choose: Choose,
    *,
    limits: Sequence[int],
    seed: int,
    stops: Int[Tensor, " stop"],
) -> dict[int, Sample]:
    """Write a group of responses, a token per row at a time; finished ones leave the batch.

    Args:
        group: Places in the call of the group's rows.
        readers: At the prompts of these rows, the one that writes first.
        choose: Says what follows.
        limits: Longest response in tokens, by place in the call.
        seed: With a place in the call it decides the row's uniform numbers.
        stops: Ids that end a response; on the device of the models.

    Raises:
        NumericsError: A log-probability is not finite.
    """
    device, longest = stops.device, max(limits[index] for index in group)
    chance = torch.from_numpy(np.stack([uniforms(seed, index, longest) for index in group])).to(device)
    written = _Written.blank([limits[index] for index in group], device)
    places = torch.tensor(list(group), device=device)
    rows = torch.arange(len(group), device=device)  # those of the group that are still in the batch
    going = torch.ones_like(rows, dtype=torch.bool)
    for time in range(longest):
        found = choose([reader.states() for reader in readers], places[rows], chance[rows, time])
        going = written.add(time, rows, going, found, stops)
        left = int(going.sum())
        if left == 0:
            break
        keep = going.nonzero().squeeze(-1) if (len(rows) - left) * _IDLE_SHARE >= len(rows) else None
        for reader in readers:
            reader.follow(found.tokens, going, keep)
        if keep is not None:
            rows, going = rows[keep], going[keep]
    return written.samples(group)


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
        self, time: int, rows: Int[Tensor, " row"], going: Bool[Tensor, " row"], found: Next, stops: Int[Tensor, " stop"]
    ) -> Bool[Tensor, " row"]:
        """Note a token per row; which rows go on. What a finished row draws lies beyond its length and is never read."""
        self.tokens[rows, time], self.log_probs[rows, time] = found.tokens, found.log_probs
        self.lengths[rows] += going
        ends = going & torch.isin(found.tokens, stops)
        self.stopped[rows] |= ends
        goes_on = going & ~ends & (self.limits[rows] > time + 1)
        return goes_on if found.cut is None else goes_on & ~found.cut

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


@contextmanager
def without_dropout(*models: LanguageModel) -> Iterator[None]:
    """The models in evaluation mode; afterwards each is in the mode that it was in, also after a failure."""
    modes = [(model, model.model.training) for model in models]
    for model in models:
        model.model.eval()
    try:
        yield
    finally:
        for model, training in modes:
            model.model.train(training)


def batches(lengths: Sequence[int], limits: Sequence[int], *, budget_tokens: int) -> list[list[int]]:
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


def require_room(lengths: Sequence[int], limits: Sequence[int], *, context: int | None, name: str) -> None:
    """Refuse what a model cannot read.

    Args:
        lengths: Of the prompts, in tokens.
        limits: Of their responses.
        context: Longest sequence that the model takes; None where it does not say.
        name: The model's, for messages.

    Raises:
        DataError: A prompt has no tokens, or does not fit into the model's context together with its response.
    """
    for index, (length, limit) in enumerate(zip(lengths, limits, strict=True)):
        if length == 0:
            raise DataError(
                f"Prompt {index} of this call has no tokens, so there is nothing that the first token could follow. Drop the "
                "row, or start prompts with the tokenizer's beginning of sequence."
            )
        if context is not None and length + limit > context:
            raise DataError(
                f"Prompt {index} of this call has {length} tokens and its response may have {limit}, but {name!r} reads "
                f"at most {context}. Lower max_new_tokens, or drop the longest prompts."
            )


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
