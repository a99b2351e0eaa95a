"""Writers for sources in which student, teacher or data write one after another."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch

from tutelage.errors import DataError
from tutelage.rollouts.sampler import Sample
from tutelage.rollouts.sources import (
    DatasetRollouts,
    MixedRollouts,
    ResponseColumn,
    Sampling,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
)
from tutelage.rollouts.writers.desk import Desk, Prompt, Text, as_values, repeated
from tutelage.types import Author, Example, Rollout
from tutelage.types.schedules import value_at

PlainSource = StudentRollouts | DatasetRollouts | TeacherRollouts | MixedRollouts | TeacherPrefixRollouts


@final
class PlainWriter:
    """Writes what needs nobody to look on."""

    def __init__(self, source: PlainSource, desk: Desk) -> None:
        self._source, self._desk = source, desk
        self._written: dict[str, list[Sample]] = {}

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """See `Writer.write`."""
        match self._source:
            case StudentRollouts(sampling=sampling):
                return by_student(self._desk, prompts, within_horizon(self._source, self._desk, step=step), step=step)
            case DatasetRollouts(column=column, max_tokens=max_tokens):
                return given_responses(prompts, text=self._desk.text, column=column, max_tokens=max_tokens)
            case TeacherRollouts(sampling=sampling):
                return self._by_teacher(prompts, sampling, step=step)
            case MixedRollouts():
                return self._mixed(prompts, self._source, step=step)
            case TeacherPrefixRollouts():
                return self._continued(prompts, self._source, step=step)

    def state_dict(self) -> dict[str, Any]:
        """Responses that the teacher wrote once for the whole run."""
        return {key: as_values(samples) for key, samples in self._written.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the responses of a saved run."""
        self._written = {key: [Sample(**sample) for sample in samples] for key, samples in state.items()}

    def _by_teacher(self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> list[Rollout]:
        desk = self._desk
        new = list({prompt.example.id: prompt for prompt in prompts if prompt.example.id not in self._written}.values())
        places = repeated(len(new), sampling.n)
        reads = [desk.teacher_reads(prompt) for prompt in new]
        samples = desk.writing_teacher.sample([reads[place] for place in places], sampling, seed=desk.stream(step, 1))
        for place, sample in zip(places, samples, strict=True):
            self._written.setdefault(new[place].example.id, []).append(sample)
        return [
            desk.rollout(prompt, place, [(sample, Author.TEACHER)], step=step)
            for place, prompt in enumerate(prompts)
            for sample in self._written[prompt.example.id]
        ]

    def _mixed(self, prompts: Sequence[Prompt], source: MixedRollouts, *, step: int) -> list[Rollout]:
        if random.Random(self._desk.stream(step, 2)).random() < source.student_fraction:
            return by_student(self._desk, prompts, source.sampling, step=step)
        if source.otherwise == "teacher":
            return self._by_teacher(prompts, source.sampling, step=step)
        return given_responses(prompts, text=self._desk.text, column=source.column, max_tokens=source.sampling.max_new_tokens)

    def _continued(self, prompts: Sequence[Prompt], source: TeacherPrefixRollouts, *, step: int) -> list[Rollout]:
        desk, sampling, room = self._desk, source.sampling, source.sampling.max_new_tokens
        prefix_tokens = round(value_at(source.prefix_fraction, step) * room)
        if prefix_tokens == 0:
            return by_student(desk, prompts, sampling, step=step)
        places = repeated(len(prompts), sampling.n)
        reads = [desk.teacher_reads(prompt) for prompt in prompts]
        prefixes = desk.writing_teacher.sample(
            [reads[place] for place in places], replace(sampling, max_new_tokens=prefix_tokens), seed=desk.stream(step, 1)
        )
        rest = [0 if prefix.finish == "stop" else room - len(prefix.token_ids) for prefix in prefixes]
        starts = [
            prompts[place].token_ids.tolist() + prefix.token_ids.tolist()
            for place, prefix in zip(places, prefixes, strict=True)
        ]
        ends = desk.student.sample(starts, sampling, seed=desk.stream(step, 0), max_new_tokens=rest)
        return [
            desk.rollout(prompts[place], place, [(prefix, Author.TEACHER), (end, Author.STUDENT)], step=step)
            for place, prefix, end in zip(places, prefixes, ends, strict=True)
        ]


def within_horizon(source: StudentRollouts, desk: Desk, *, step: int) -> Sampling:
    """The sampling of a step, its responses no longer than the horizon of that step."""
    if source.horizon is None:
        return source.sampling
    horizon = max(1, round(value_at(source.horizon, step, desk.aids.controls)))
    return replace(source.sampling, max_new_tokens=min(horizon, source.sampling.max_new_tokens))


def by_student(desk: Desk, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> list[Rollout]:
    """The student writes as it is now."""
    places = repeated(len(prompts), sampling.n)
    ids = [prompts[place].token_ids.tolist() for place in places]
    return desk.rollouts(prompts, places, desk.student.sample(ids, sampling, seed=desk.stream(step, 0)), step=step)


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
        found.append(
            Rollout(
                example=prompt.example,
                group=place,
                prompt_ids=prompt.token_ids,
                response_ids=torch.tensor(kept, dtype=torch.long),
                authors=torch.full((len(kept),), int(Author.DATASET)),
                behaviour_log_probs=torch.full((len(kept),), torch.nan),
                finish="length" if was_cut or len(kept) < len(ids) else "stop",
                text=text.decode(kept),
            )
        )
    return found


def _response(example: Example, column: ResponseColumn) -> str:
    text = example.response if column == "response" else example.solution
    if text is None:
        raise DataError(
            f"Example {example.id!r} has no {column!r}, which this recipe trains on. Map the column that holds it "
            "(data.columns), drop the row, or choose a recipe whose student or teacher writes."
        )
    return text
