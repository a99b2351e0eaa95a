"""A teacher that is asked about every response once."""

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor

from tutelage.models.language_model import LanguageModel
from tutelage.objectives import measure
from tutelage.teachers.context_parts import Context
from tutelage.teachers.contexts import Attempt
from tutelage.teachers.in_process import Teacher
from tutelage.teachers.scorer import Scored, TeacherPrompt
from tutelage.types import Example, FullSignal, Rollout, SampledSignal, StepBatch

NOT_ASKED = "skipped:not asked about"
"""Reason of a rollout that neither this call nor an earlier one asked about."""


@final
class Remembering:
    """Keeps the log-probability of every token that it scored; a response that comes again costs no forward."""

    provides = SampledSignal.provides

    def __init__(self, teacher: Teacher) -> None:
        """Ask `teacher`, which must not move."""
        self.whole = teacher
        self._scores: dict[str, Tensor] = {}
        self._reasons: dict[str, str] = {}

    def reader(self, example: Example) -> LanguageModel:
        """The model that reads an example."""
        return self.whole.reader(example)

    def prompt(
        self,
        example: Example,
        *,
        read_by_student: Int[Tensor, " prompt"],
        attempt: Attempt | None = None,
        context: Context | None = None,
    ) -> TeacherPrompt:
        """The ids that the teacher reads before a response."""
        return self.whole.prompt(example, read_by_student=read_by_student, attempt=attempt, context=context)

    def prompts(self, batch: StepBatch) -> list[TeacherPrompt]:
        """The ids that the teacher reads before each response of a step."""
        return self.whole.prompts(batch)

    @torch.no_grad()
    def score(self, batch: StepBatch, *, only: Collection[int] | None = None) -> Scored:
        """The teacher's log-probability of every row's own token at temperature 1, detached.

        Args:
            batch: The step.
            only: Indices of the rollouts that are asked about, where it is not all of them.

        Raises:
            TeacherError: None of the responses that are new can be taught.
        """
        keys = [_key(rollout) for rollout in batch.rollouts]
        asked = range(len(keys)) if only is None else sorted(only)
        new = {keys[index]: index for index in asked if keys[index] not in self._reasons}
        if new:
            self._ask(batch, new)
        sampled = torch.zeros(batch.num_rows, device=batch.token.device)
        taught = torch.zeros(batch.num_rows, dtype=torch.bool, device=batch.token.device)
        for index in asked:
            if (key := keys[index]) in self._scores:
                rows = batch.rows_of([index])
                sampled[rows], taught[rows] = self._scores[key].to(sampled), True
        return Scored(
            signal=SampledSignal(sampled=sampled),
            rows_taught=taught,
            reasons=tuple(self._reasons.get(key, NOT_ASKED) for key in keys),
        )

    def update(self, student: LanguageModel) -> None:
        """It stays as it is."""

    def state_dict(self) -> dict[str, Any]:
        """All that was scored."""
        return {"scores": dict(self._scores), "reasons": dict(self._reasons)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the scores of a saved run."""
        self._scores, self._reasons = dict(state["scores"]), dict(state["reasons"])

    def _ask(self, batch: StepBatch, new: Mapping[str, int]) -> None:
        asked = sorted(new.values())
        found, rows = self.whole.score(batch, only=asked), batch.rows_of(asked)
        assert isinstance(found.signal, FullSignal)
        # as if the teacher were the student: the same arithmetic as where its distribution is at hand
        own = measure(batch.select(rows), hidden=found.signal.hidden[rows], head=found.signal.head, teachers={})
        sampled = torch.zeros(batch.num_rows, device=batch.token.device)
        sampled[rows] = own["student_log_prob"].to(sampled)
        for key, index in new.items():
            mine = batch.rows_of([index])
            self._reasons[key] = found.reasons[index]
            if bool(found.rows_taught[mine].all()):
                self._scores[key] = sampled[mine].cpu()


def _key(rollout: Rollout) -> str:
    """The same for the same response to the same example under the same template."""
    read = blake2b(digest_size=16)
    for ids in (rollout.prompt_ids, rollout.response_ids):
        read.update(ids.cpu().numpy().tobytes() + b"|")
    return f"{rollout.example.id} {read.hexdigest()}"
