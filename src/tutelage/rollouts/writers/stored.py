"""Writers that keep what was written."""

from collections.abc import Mapping, Sequence
from typing import Any, final

from tutelage.rollouts.samples import Sample
from tutelage.rollouts.sources import ReplayRollouts
from tutelage.rollouts.writers.desk import Desk, Prompt, as_values, repeated
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
