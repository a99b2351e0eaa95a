"""Several teachers, each for its own examples."""

from collections.abc import Collection, Mapping
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor

from tutelage.models.language_model import LanguageModel
from tutelage.teachers.context_parts import Context
from tutelage.teachers.contexts import Attempt
from tutelage.teachers.in_process import Teacher
from tutelage.teachers.parts import RoutedTeacher
from tutelage.teachers.scorer import Reader, Scored, TeacherPrompt, TeacherReading
from tutelage.types import Example, FullSignal, RoutedSignal, StepBatch


@final
class ReadingByExpert:
    """Each example as its own expert reads it."""

    def __init__(self, part: RoutedTeacher, experts: Mapping[str, TeacherReading]) -> None:
        """Keep what the experts read, by the names that the part gives them."""
        self._part, self._experts = part, dict(experts)

    def reader(self, example: Example) -> Reader:
        """Of the example's expert."""
        return self._experts[self._part.expert_of(example)].reader(example)

    def prompt(
        self,
        example: Example,
        *,
        read_by_student: Int[Tensor, " prompt"],
        attempt: Attempt | None = None,
        context: Context | None = None,
    ) -> TeacherPrompt:
        """The ids that the example's expert reads before a response."""
        expert = self._experts[self._part.expert_of(example)]
        return expert.prompt(example, read_by_student=read_by_student, attempt=attempt, context=context)

    def prompts(self, batch: StepBatch) -> list[TeacherPrompt]:
        """The ids that each rollout's expert reads before the response."""
        read = {name: expert.prompts(batch) for name, expert in self._experts.items()}
        return [read[self._part.expert_of(rollout.example)][index] for index, rollout in enumerate(batch.rollouts)]


@final
class Experts:
    """Asks each expert about the rollouts of its own examples only."""

    provides = RoutedSignal.provides

    def __init__(self, part: RoutedTeacher, experts: Mapping[str, Teacher]) -> None:
        """Keep the experts, by the names that the part gives them."""
        self._part, self._experts = part, dict(experts)
        self.reading = ReadingByExpert(part, {name: expert.reading for name, expert in experts.items()})

    @torch.no_grad()
    def score(self, batch: StepBatch, *, only: Collection[int] | None = None) -> Scored:
        """Every rollout as its expert scores it, detached.

        Args:
            batch: The step.
            only: Indices of the rollouts that are asked about, where it is not all of them.

        Raises:
            DataError: An example names nobody, and there is no default.
        """
        names = list(self._experts)
        by_rollout = [names.index(self._part.expert_of(rollout.example)) for rollout in batch.rollouts]
        wanted = range(len(by_rollout)) if only is None else sorted(only)
        asked = [
            expert.score(batch, only=[index for index in wanted if by_rollout[index] == place])
            for place, expert in enumerate(self._experts.values())
        ]
        which = torch.tensor(by_rollout, device=batch.rollout.device)[batch.rollout]
        signals = tuple(found.signal for found in asked if isinstance(found.signal, FullSignal))
        return Scored(
            signal=RoutedSignal(parts=signals, which=which),
            rows_taught=torch.stack([found.rows_taught for found in asked]).any(dim=0),
            reasons=tuple(asked[who].reasons[index] for index, who in enumerate(by_rollout)),
        )

    def update(self, student: LanguageModel) -> None:
        """Experts stay as they are."""

    def state_dict(self) -> dict[str, Any]:
        """Empty: the weights lie in the folders that the run started from."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to put back."""
