"""What every writer works with: prompts, text, samplers, and how samples become a rollout."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tutelage.rollouts.guided import GuidedSampler
from tutelage.rollouts.samples import Sample, Sampler
from tutelage.types import Author, Example, Rollout, Verdict


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prompt:
    """An example and the ids that the student reads."""

    example: Example
    token_ids: Int[Tensor, " prompt"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Text:
    """Between ids and text, on the student's side."""

    decode: Callable[[list[int]], str]
    encode_response: Callable[[str], list[int]]
    """Ids of a given response with the end of sequence that the student would write."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text that goes on afterwards."""
        return self.encode_response(text)[:-1]


@runtime_checkable
class Reply(Protocol):
    """What an environment says."""

    def __call__(self, example: Example, turns: Sequence[str], /) -> str | None:
        """The reply to the last of the student's turns so far; None where the conversation is over."""
        ...


@runtime_checkable
class Overlap(Protocol):
    """How near responses lie to the student."""

    def __call__(self, rollouts: Sequence[Rollout], *, k: int) -> list[float]:
        """For each response the share of its tokens among the student's `k` likeliest."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Aids:
    """What only some sources use."""

    controls: Mapping[str, float] = field(default_factory=dict[str, float])
    """Values of controlled settings by name, as they are when a step is written; whoever moves them keeps the mapping."""
    prompts: Sequence[Prompt] = ()
    """All prompts of the run, for sources that write ahead."""
    judge: Callable[[Sequence[Rollout]], list[Verdict]] = lambda rollouts: [Verdict() for _ in rollouts]
    """The run's verifier, for sources that choose among responses."""
    overlap: Overlap | None = None
    """How near responses lie to the student, for the same sources."""
    hint: Callable[[Prompt], list[int] | None] = lambda prompt: None
    """The ids that the teacher reads with a hint; None where the example has nothing to hint at."""
    reply: Reply | None = None
    """The environment, for the source that talks with one; None has the source look it up."""
    together: GuidedSampler | None = None
    """Student and teacher in one loop, for sources in which the teacher reads along."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Desk:
    """What the writers of a run share."""

    student: Sampler
    text: Text
    seed: int
    teacher: Sampler | None
    teacher_reads: Callable[[Prompt], list[int]]
    aids: Aids

    @property
    def writing_teacher(self) -> Sampler:
        """The teacher's sampler, for sources that let it write."""
        assert self.teacher is not None, "a recipe whose teacher writes is refused before this point if there is none"
        return self.teacher

    def stream(self, step: int, stream: int) -> int:
        """A seed for one purpose in one step: 0 the student's draws, 1 the teacher's, 2 who writes, from 3 on later turns."""
        return int(np.random.SeedSequence([self.seed, step, stream]).generate_state(1, np.uint64)[0])

    def rollout(self, prompt: Prompt, group: int, parts: Sequence[tuple[Sample, Author]], *, step: int) -> Rollout:
        """One response from the parts that its authors wrote, in order; only the student's draws have a behaviour."""
        ids = torch.cat([part.token_ids for part, _ in parts])
        return Rollout(
            example=prompt.example,
            group=group,
            prompt_ids=prompt.token_ids,
            response_ids=ids,
            authors=torch.cat([torch.full_like(part.token_ids, author) for part, author in parts]),
            behaviour_log_probs=torch.cat(
                [
                    part.log_probs if author == Author.STUDENT else torch.full_like(part.log_probs, torch.nan)
                    for part, author in parts
                ]
            ),
            finish="stop" if any(part.finish == "stop" for part, _ in parts) else "length",
            text=self.text.decode(ids.tolist()),
            policy_step=step,
        )

    def rollouts(
        self, prompts: Sequence[Prompt], places: Sequence[int], samples: Sequence[Sample], *, step: int
    ) -> list[Rollout]:
        """What the student wrote alone, a sample per place of a prompt."""
        return [
            self.rollout(prompts[place], place, [(sample, Author.STUDENT)], step=step)
            for place, sample in zip(places, samples, strict=True)
        ]


@runtime_checkable
class Writer(Protocol):
    """Carries one source out."""

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """Responses to a step's prompts; those of one prompt lie together and share a group."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on to the same bits."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        ...


def repeated(num_prompts: int, n: int) -> list[int]:
    """For each response the place of its prompt."""
    return [place for place in range(num_prompts) for _ in range(n)]


def as_values(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Samples as a checkpoint holds them."""
    return [{"token_ids": sample.token_ids, "log_probs": sample.log_probs, "finish": sample.finish} for sample in samples]
