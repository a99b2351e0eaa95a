"""From prompts to rollouts: whoever the recipe says writes them."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tutelage.errors import DataError
from tutelage.rollouts.sampler import Sample, Sampler
from tutelage.rollouts.sources import (
    AnyRollouts,
    DatasetRollouts,
    MixedRollouts,
    ResponseColumn,
    Sampling,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
)
from tutelage.types import Author, Example, Rollout
from tutelage.types.schedules import value_at


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


@final
class RolloutWriter:
    """Writes the responses of a step."""

    def __init__(
        self,
        source: AnyRollouts,
        *,
        student: Sampler,
        text: Text,
        seed: int,
        teacher: Sampler | None = None,
        teacher_reads: Callable[[Prompt], list[int]] = lambda prompt: prompt.token_ids.tolist(),
    ) -> None:
        """Choose who writes.

        Args:
            source: The recipe's choice.
            student: Samples from the student as it is.
            text: Between ids and text.
            seed: Of the run; with the step it decides all draws.
            teacher: Samples from the teacher, where the recipe lets it write.
            teacher_reads: The ids that the teacher reads before it writes: its own chat template and context may differ.
        """
        self._source, self._student, self._teacher, self._text, self._seed = source, student, teacher, text, seed
        self._teacher_reads = teacher_reads
        self._written: dict[str, list[Sample]] = {}

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """Responses to a step's prompts; those of one prompt lie together and share a group.

        Raises:
            DataError: The recipe trains on a column that an example lacks, or a prompt has no tokens.
        """
        for prompt in prompts:
            _require_tokens(prompt)
        match self._source:
            case StudentRollouts(sampling=sampling):
                return self._by_student(prompts, sampling, step=step)
            case DatasetRollouts(column=column, max_tokens=max_tokens):
                return given_responses(prompts, text=self._text, column=column, max_tokens=max_tokens)
            case TeacherRollouts(sampling=sampling):
                return self._by_teacher(prompts, sampling, step=step)
            case MixedRollouts():
                return self._mixed(prompts, self._source, step=step)
            case TeacherPrefixRollouts():
                return self._continued(prompts, self._source, step=step)

    def state_dict(self) -> dict[str, Any]:
        """Responses that were written once for the whole run."""
        return {
            key: [{"token_ids": s.token_ids, "log_probs": s.log_probs, "finish": s.finish} for s in samples]
            for key, samples in self._written.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the responses of a saved run."""
        self._written = {key: [Sample(**sample) for sample in samples] for key, samples in state.items()}

    def _by_student(self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> list[Rollout]:
        places = _repeated(len(prompts), sampling.n)
        ids = [prompts[place].token_ids.tolist() for place in places]
        samples = self._student.sample(ids, sampling, seed=self._stream(step, 0))
        return [
            _rollout(prompts[place], place, [(sample, Author.STUDENT)], text=self._text, step=step)
            for place, sample in zip(places, samples, strict=True)
        ]

    def _by_teacher(self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> list[Rollout]:
        teacher = _require_writer(self._teacher)
        new = list({prompt.example.id: prompt for prompt in prompts if prompt.example.id not in self._written}.values())
        places = _repeated(len(new), sampling.n)
        reads = [self._teacher_reads(prompt) for prompt in new]
        samples = teacher.sample([reads[place] for place in places], sampling, seed=self._stream(step, 1))
        for place, sample in zip(places, samples, strict=True):
            self._written.setdefault(new[place].example.id, []).append(sample)
        return [
            _rollout(prompt, place, [(sample, Author.TEACHER)], text=self._text, step=step)
            for place, prompt in enumerate(prompts)
            for sample in self._written[prompt.example.id]
        ]

    def _mixed(self, prompts: Sequence[Prompt], source: MixedRollouts, *, step: int) -> list[Rollout]:
        if random.Random(self._stream(step, 2)).random() < source.student_fraction:
            return self._by_student(prompts, source.sampling, step=step)
        if source.otherwise == "teacher":
            return self._by_teacher(prompts, source.sampling, step=step)
        return given_responses(prompts, text=self._text, column=source.column, max_tokens=source.sampling.max_new_tokens)

    def _continued(self, prompts: Sequence[Prompt], source: TeacherPrefixRollouts, *, step: int) -> list[Rollout]:
        sampling, room = source.sampling, source.sampling.max_new_tokens
        prefix_tokens = round(value_at(source.prefix_fraction, step) * room)
        if prefix_tokens == 0:
            return self._by_student(prompts, sampling, step=step)
        places = _repeated(len(prompts), sampling.n)
        reads = [self._teacher_reads(prompt) for prompt in prompts]
        prefixes = _require_writer(self._teacher).sample(
            [reads[place] for place in places], replace(sampling, max_new_tokens=prefix_tokens), seed=self._stream(step, 1)
        )
        rest = [0 if prefix.finish == "stop" else room - len(prefix.token_ids) for prefix in prefixes]
        starts = [
            prompts[place].token_ids.tolist() + prefix.token_ids.tolist()
            for place, prefix in zip(places, prefixes, strict=True)
        ]
        ends = self._student.sample(starts, sampling, seed=self._stream(step, 0), max_new_tokens=rest)
        return [
            _rollout(prompts[place], place, [(prefix, Author.TEACHER), (end, Author.STUDENT)], text=self._text, step=step)
            for place, prefix, end in zip(places, prefixes, ends, strict=True)
        ]

    def _stream(self, step: int, stream: int) -> int:
        """A seed for one purpose in one step."""
        return int(np.random.SeedSequence([self._seed, step, stream]).generate_state(1, np.uint64)[0])


def given_responses(prompts: Sequence[Prompt], *, text: Text, column: ResponseColumn, max_tokens: int) -> list[Rollout]:
    """The data's own responses, ended by the student's end of sequence; one that is cut, here or by its writer, has none.

    Raises:
        DataError: An example lacks the column.
    """
    found: list[Rollout] = []
    for place, prompt in enumerate(prompts):
        ids = text.encode_response(_response(prompt.example, column))
        was_cut = column == "response" and prompt.example.finish_reason == "length"
        kept = ids[:-1][:max_tokens] if was_cut else ids[:max_tokens]
        sample = Sample(
            token_ids=torch.tensor(kept, dtype=torch.long),
            log_probs=torch.full((len(kept),), torch.nan),
            finish="length" if was_cut or len(kept) < len(ids) else "stop",
        )
        found.append(_rollout(prompt, place, [(sample, Author.DATASET)], text=text, step=0))
    return found


def _rollout(prompt: Prompt, group: int, parts: Sequence[tuple[Sample, Author]], *, text: Text, step: int) -> Rollout:
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
        text=text.decode(ids.tolist()),
        policy_step=step,
    )


def _repeated(num_prompts: int, n: int) -> list[int]:
    return [place for place in range(num_prompts) for _ in range(n)]


def _require_tokens(prompt: Prompt) -> None:
    if len(prompt.token_ids) == 0:
        raise DataError(
            f"The prompt of example {prompt.example.id!r} has no tokens, so nothing predicts the first token of a response. "
            "Drop the row, or wrap plain text into a turn (wrap_prompts = 'always')."
        )


def _require_writer(teacher: Sampler | None) -> Sampler:
    assert teacher is not None, "a recipe whose teacher writes is refused before this point if there is none"
    return teacher


def _response(example: Example, column: ResponseColumn) -> str:
    text = example.response if column == "response" else example.solution
    if text is None:
        raise DataError(
            f"Example {example.id!r} has no {column!r}, which this recipe trains on. Map the column that holds it "
            "(data.columns), drop the row, or choose a recipe whose student or teacher writes."
        )
    return text
