"""Writers for sources in which the teacher reads along."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch

from tutelage.rollouts.guided import Guide
from tutelage.rollouts.guides import AgreementStop, Blend
from tutelage.rollouts.samples import Sample
from tutelage.rollouts.sources import BlendedRollouts, Sampling, WatchedRollouts
from tutelage.rollouts.writers.desk import Desk, Prompt, repeated
from tutelage.rollouts.writers.plain import by_student
from tutelage.types import Rollout
from tutelage.types.schedules import value_at


@final
class BlendedWriter:
    """Draws between student and teacher."""

    def __init__(self, source: BlendedRollouts, desk: Desk) -> None:
        self._source, self._desk = source, desk

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """See `Writer.write`."""
        sampling, radius = self._source.sampling, value_at(self._source.radius, step)
        if radius == 0.0:
            return by_student(self._desk, prompts, sampling, step=step)
        places = repeated(len(prompts), sampling.n)
        guide = Blend(radius=radius, temperature=sampling.temperature)
        samples = _together(self._desk, prompts, places, sampling, guide, step=step)
        return self._desk.rollouts(prompts, places, samples, step=step)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: every step is drawn anew."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""


@final
class WatchedWriter:
    """Ends responses in which the teacher has nothing to say any more."""

    def __init__(self, source: WatchedRollouts, desk: Desk) -> None:
        self._source, self._desk = source, desk
        self._minima: list[float] = []

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """See `Writer.write`."""
        source, sampling = self._source, self._source.sampling
        places = repeated(len(prompts), sampling.n)
        watch = AgreementStop(
            len(places),
            longest=sampling.max_new_tokens,
            window=source.window,
            entries=source.entries,
            threshold=self._threshold(step),
            count=source.count,
            grace=source.window + source.grace,
        )
        samples = _together(self._desk, prompts, places, sampling, watch, step=step)
        least = [watch.least(place, length=len(sample.token_ids)) for place, sample in enumerate(samples)]
        self._minima = [*self._minima, *(value for value in least if value is not None)][-source.buffer :]
        cut = [_cut(sample, watch.kept(place, length=len(sample.token_ids))) for place, sample in enumerate(samples)]
        return self._desk.rollouts(prompts, places, cut, step=step)

    def state_dict(self) -> dict[str, Any]:
        """The least windows that are remembered, oldest first."""
        return {"minima": list(self._minima)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the buffer of a saved run."""
        self._minima = list(state["minima"])

    def _threshold(self, step: int) -> float | None:
        if len(self._minima) < self._source.min_fill or step < self._source.warmup_steps:
            return None
        return float(torch.tensor(self._minima, dtype=torch.float64).quantile(1.0 - self._source.share))


def _together(
    desk: Desk, prompts: Sequence[Prompt], places: Sequence[int], sampling: Sampling, guide: Guide, *, step: int
) -> list[Sample]:
    """What the student writes while the teacher reads along; the draws are those of the student alone."""
    assert desk.aids.together is not None, "whoever builds a writer for such a source gives it both models"
    own = [prompt.token_ids.tolist() for prompt in prompts]
    reads = [desk.teacher_reads(prompt) for prompt in prompts]
    return desk.aids.together.sample(
        [own[place] for place in places], [reads[place] for place in places], sampling, guide, seed=desk.stream(step, 0)
    )


def _cut(sample: Sample, kept: int) -> Sample:
    if kept == len(sample.token_ids):
        return sample
    return replace(sample, token_ids=sample.token_ids[:kept], log_probs=sample.log_probs[:kept], finish="length")
