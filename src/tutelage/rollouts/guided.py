"""Student and teacher read along with one response, and a guide looks at both before each token is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.models import LanguageModel
from tutelage.rollouts.decoding import Next, Reader, batches, decode, require_room, without_dropout
from tutelage.rollouts.drawing import draw
from tutelage.rollouts.sampler import EMPTY
from tutelage.rollouts.samples import Sample
from tutelage.rollouts.sources import Sampling

_LOGITS_AT_ONCE = 2**23  # entries of one model; both have as many


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Guidance:
    """What a guide wants of the next token."""

    logits: Float[Tensor, "row vocab"]
    """What is drawn from, by the sampling's temperature and filters; the student's own leave everything as it is."""
    cut: Bool[Tensor, " row"] | None = None
    """Rows that end with this token without an end of sequence; None where none does."""


@runtime_checkable
class Guide(Protocol):
    """Decides at each token what is drawn from, and whether the response goes on."""

    def __call__(
        self, student: Float[Tensor, "row vocab"], teacher: Float[Tensor, "row vocab"], places: Int[Tensor, " row"]
    ) -> Guidance:
        """Look at both sides.

        Args:
            student: Logits in float32, of the ids that both sides share.
            teacher: The teacher's, under its own prompt and after the same response.
            places: Of the rows in the call. A row is seen once per token, in the order of time; one that has finished may be
                seen a few times more.
        """
        ...


@runtime_checkable
class GuidedSampler(Protocol):
    """Writes one response per prompt with both models at hand."""

    def sample(
        self, prompts: Sequence[Sequence[int]], reads: Sequence[Sequence[int]], sampling: Sampling, guide: Guide, *, seed: int
    ) -> list[Sample]:
        """Responses in the order of the prompts; a guide that changes nothing gives those of the student's sampler.

        Args:
            prompts: What the student reads.
            reads: What the teacher reads in their place.
            sampling: How tokens are drawn; `n` is the caller's to apply.
            guide: Looks on.
            seed: Together with a prompt's place in the call it decides all draws.

        Raises:
            DataError: A prompt has no tokens, or does not fit into a model's context together with its response.
            NumericsError: A model's logits are not finite.
        """
        ...


@final
class LockstepSampler:
    """Two models in one decoding loop, each with a cache of its own."""

    def __init__(
        self,
        student: LanguageModel,
        teacher: LanguageModel,
        *,
        vocab: int,
        stop_token_ids: frozenset[int],
        batch_tokens: int = 65536,
        autocast: torch.dtype | None = None,
    ) -> None:
        """Sample from both.

        Args:
            student: Its weights as they are at each call.
            teacher: Computes in its own type, as it does when it writes alone.
            vocab: Only ids below it are ever drawn.
            stop_token_ids: Ids that end a response.
            batch_tokens: Bound on the tokens of one batch, prompts and responses of both models.
            autocast: Arithmetic of the student's forward where it is not that of its weights.
        """
        self._student, self._teacher, self._vocab = student, teacher, vocab
        self._batch_tokens, self._autocast = batch_tokens, autocast
        self._stops = torch.tensor(sorted(stop_token_ids), dtype=torch.long)

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[Sequence[int]], reads: Sequence[Sequence[int]], sampling: Sampling, guide: Guide, *, seed: int
    ) -> list[Sample]:
        """See `GuidedSampler.sample`."""
        limits = [sampling.max_new_tokens] * len(prompts)
        own, theirs = [len(prompt) for prompt in prompts], [len(read) for read in reads]
        require_room(own, limits, context=self._student.max_context, name=self._student.name)
        require_room(theirs, limits, context=self._teacher.max_context, name=self._teacher.name)
        stops = self._stops.to(self._student.device)

        def following(
            states: Sequence[Float[Tensor, "row _"]], places: Int[Tensor, " row"], chance: Float[Tensor, " row"]
        ) -> Next:
            return self._next(states, places, chance, sampling, guide)

        done = dict.fromkeys(range(len(prompts)), EMPTY)
        lengths = [max(pair) for pair in zip(own, theirs, strict=True)]
        device = self._student.device.type
        with (
            without_dropout(self._student, self._teacher),
            torch.autocast(device, dtype=self._autocast, enabled=self._autocast is not None),
        ):
            for group in batches(lengths, limits, budget_tokens=self._batch_tokens // 2):
                readers = [
                    Reader(self._student, [prompts[index] for index in group], room=sampling.max_new_tokens),
                    Reader(self._teacher, [reads[index] for index in group], room=sampling.max_new_tokens, plain=True),
                ]
                done.update(decode(group, readers, following, limits=limits, seed=seed, stops=stops))
        return [done[index] for index in range(len(prompts))]

    def _next(
        self,
        states: Sequence[Float[Tensor, "row _"]],
        places: Int[Tensor, " row"],
        chance: Float[Tensor, " row"],
        sampling: Sampling,
        guide: Guide,
    ) -> Next:
        """One token per row, with the logits of few rows at a time."""
        count = max(1, _LOGITS_AT_ONCE // self._vocab)
        parts = list[Next]()
        for own, theirs, place, luck in zip(
            states[0].split(count), states[1].split(count), places.split(count), chance.split(count), strict=True
        ):
            student = self._student.logits(own, self._vocab)
            with torch.autocast(self._student.device.type, enabled=False):
                teacher = self._teacher.logits(theirs, self._vocab)
                said = guide(student, teacher, place)
            tokens, log_probs = draw(said.logits, sampling, luck)
            cut = torch.zeros_like(place, dtype=torch.bool) if said.cut is None else said.cut
            parts.append(Next(tokens=tokens, log_probs=log_probs, cut=cut))
        return Next(
            tokens=torch.cat([part.tokens for part in parts]),
            log_probs=torch.cat([part.log_probs for part in parts]),
            cut=torch.cat([part.cut for part in parts if part.cut is not None]),
        )
