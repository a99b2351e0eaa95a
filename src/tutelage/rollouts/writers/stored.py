"""Writers that keep what was written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

from tutelage.errors import DataError
from tutelage.rollouts.samples import Sample
from tutelage.rollouts.sources import BufferedRollouts, ReplayRollouts
from tutelage.rollouts.writers.desk import Desk, Prompt, as_values, repeated
from tutelage.rollouts.writers.plain import by_student
from tutelage.types import Author, Rollout


@final
class ReplayWriter:
    """Writes to each prompt once."""

    def __init__(self, source: ReplayRollouts, desk: Desk) -> None:
        self._source, self._desk = source, desk
        self._written: dict[str, list[Sample]] = {}
        self._steps: dict[str, int] = {}

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """See `Writer.write`."""
        if any(prompt.example.id not in self._written for prompt in prompts):
            self._write_new([*prompts, *self._desk.aids.prompts] if self._source.ahead else prompts, step=step)
        return [
            self._desk.rollout(prompt, place, [(sample, Author.STUDENT)], step=self._steps[prompt.example.id])
            for place, prompt in enumerate(prompts)
            for sample in self._written[prompt.example.id]
        ]

    def state_dict(self) -> dict[str, Any]:
        """All responses, and the steps in which they were written."""
        return {"written": {key: as_values(samples) for key, samples in self._written.items()}, "steps": dict(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the responses of a saved run."""
        self._written = {key: [Sample(**sample) for sample in samples] for key, samples in state["written"].items()}
        self._steps = dict(state["steps"])

    def _write_new(self, prompts: Sequence[Prompt], *, step: int) -> None:
        new = list({prompt.example.id: prompt for prompt in prompts if prompt.example.id not in self._written}.values())
        places = repeated(len(new), self._source.sampling.n)
        ids = [new[place].token_ids.tolist() for place in places]
        samples = self._desk.student.sample(ids, self._source.sampling, seed=self._desk.stream(step, 0))
        for place, sample in zip(places, samples, strict=True):
            self._written.setdefault(new[place].example.id, []).append(sample)
            self._steps[new[place].example.id] = step


@final
class BufferedWriter:
    """Mixes what was written some steps ago with what is written now."""

    def __init__(self, source: BufferedRollouts, desk: Desk) -> None:
        self._source, self._desk = source, desk
        self._kept: list[list[Rollout]] = []  # one list per prompt, oldest first

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """See `Writer.write`."""
        staleness = self._source.staleness
        ready = [group for group in self._kept if step - group[0].policy_step >= staleness > 0]
        old = ready[: round(self._source.reuse * len(prompts))]
        new = by_student(self._desk, prompts[: len(prompts) - len(old)], self._source.sampling, step=step)
        left = self._kept[len(ready) :]  # what was ready and had no place is too old for the next step
        self._kept = [*left, *_groups(new)] if staleness > 0 else []
        first = len(prompts) - len(old)
        return new + [replace(rollout, group=first + place) for place, group in enumerate(old) for rollout in group]

    def state_dict(self) -> dict[str, Any]:
        """The buffer, oldest first."""
        return {
            "kept": [
                {
                    "example": group[0].example.id,
                    "step": group[0].policy_step,
                    "samples": as_values([_sample(rollout) for rollout in group]),
                }
                for group in self._kept
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the buffer of a saved run.

        Raises:
            DataError: It holds a response to a prompt that the run does not have any more.
        """
        prompts = {prompt.example.id: prompt for prompt in self._desk.aids.prompts}
        if missing := sorted({entry["example"] for entry in state["kept"]} - prompts.keys()):
            raise DataError(
                f"The saved buffer holds responses to {', '.join(missing[:3])}, which the data does not have any more. "
                "Continue with the data that the run was started with."
            )
        self._kept = [
            [
                self._desk.rollout(prompts[entry["example"]], 0, [(Sample(**sample), Author.STUDENT)], step=entry["step"])
                for sample in entry["samples"]
            ]
            for entry in state["kept"]
        ]


def _groups(rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
    found: dict[int, list[Rollout]] = {}
    for rollout in rollouts:
        found.setdefault(rollout.group, []).append(rollout)
    return list(found.values())


def _sample(rollout: Rollout) -> Sample:
    return Sample(token_ids=rollout.response_ids, log_probs=rollout.behaviour_log_probs, finish=rollout.finish)
