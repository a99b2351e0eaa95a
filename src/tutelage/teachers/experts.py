"""Several teachers, each for its own examples."""

from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor

from tutelage.models.language_model import LanguageModel
from tutelage.teachers.in_process import Scored, Teacher, TeacherPrompt
from tutelage.teachers.parts import RoutedTeacher
from tutelage.types import Example, FullSignal, RoutedSignal, StepBatch


@final
class Experts:
    """Asks each expert about the rollouts of its own examples only."""

    def __init__(self, part: RoutedTeacher, experts: Mapping[str, Teacher]) -> None:
        """Keep the experts, by the names that the part gives them."""
        self._part, self._experts = part, dict(experts)

    def reader(self, example: Example) -> LanguageModel:
        """The model that reads an example."""
        return self._experts[self._part.expert_of(example)].model

    def prompt(self, example: Example, *, read_by_student: Int[Tensor, " prompt"]) -> TeacherPrompt:
        """The ids that the example's expert reads before a response."""
        return self._experts[self._part.expert_of(example)].prompt(example, read_by_student=read_by_student)

    @torch.no_grad()
    def score(self, batch: StepBatch) -> Scored:
        """Every rollout as its expert scores it, detached.

        Raises:
            DataError: An example names nobody, and there is no default.
        """
        names = list(self._experts)
        by_rollout = [names.index(self._part.expert_of(rollout.example)) for rollout in batch.rollouts]
        asked = [
            expert.score(batch, only=[index for index, who in enumerate(by_rollout) if who == place])
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
