"""Several teachers, each for its own examples."""

from collections.abc import Collection, Mapping, Sequence
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
from tutelage.teachers.served import Served
from tutelage.types import Capability, Example, FullSignal, RoutedSignal, SampledSignal, StepBatch, TopKSignal


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

    def __init__(self, part: RoutedTeacher, experts: Mapping[str, Teacher | Served]) -> None:
        """Keep the experts, by the names that the part gives them."""
        self._part, self._experts = part, dict(experts)
        self.reading = ReadingByExpert(part, {name: expert.reading for name, expert in experts.items()})
        self._servers = {name: expert for name, expert in experts.items() if isinstance(expert, Served)}

    @property
    def provides(self) -> frozenset[Capability]:
        """See `RoutedTeacher.provides`."""
        return self._part.provides

    @torch.no_grad()
    def score(self, batch: StepBatch, *, only: Collection[int] | None = None) -> Scored:
        """Every rollout as its expert scores it, detached.

        Args:
            batch: The step.
            only: Indices of the rollouts that are asked about, where it is not all of them.

        Raises:
            DataError: An example names nobody, and there is no default.
            ServerError: See `Served.score`.
        """
        names = list(self._experts)
        by_rollout = [names.index(self._part.expert_of(rollout.example)) for rollout in batch.rollouts]
        wanted = range(len(by_rollout)) if only is None else sorted(only)
        asked = [
            expert.score(batch, only=[index for index in wanted if by_rollout[index] == place])
            for place, expert in enumerate(self._experts.values())
        ]
        which = torch.tensor(by_rollout, device=batch.rollout.device)[batch.rollout]
        return Scored(
            signal=_side_by_side([found.signal for found in asked], which),
            rows_taught=torch.stack([found.rows_taught for found in asked]).any(dim=0),
            reasons=tuple(asked[who].reasons[index] for index, who in enumerate(by_rollout)),
        )

    def figures(self) -> Mapping[str, float]:
        """The largest of each metric of the experts behind servers; empty where none is."""
        found = [expert.figures() for expert in self._servers.values()]
        return {name: max(one[name] for one in found) for one in found for name in one}

    def update(self, student: LanguageModel) -> None:
        """Experts stay as they are."""

    def state_dict(self) -> dict[str, Any]:
        """What servers are known again by; the weights of the others lie in the folders that the run started from."""
        return {name: expert.state_dict() for name, expert in self._servers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with what each server answered when the run was saved.

        Raises:
            ServerError: Other weights stand behind an address now.
        """
        for name, expert in self._servers.items():
            expert.load_state_dict(state[name])


def _side_by_side(
    signals: Sequence[FullSignal | RoutedSignal | TopKSignal | SampledSignal], which: Int[Tensor, " row"]
) -> RoutedSignal | TopKSignal | SampledSignal:
    """One signal in which each row is what its own expert says.

    Whole distributions stay apart, since their heads differ. What servers give are numbers per row, so these are chosen.
    """
    whole = tuple(signal for signal in signals if isinstance(signal, FullSignal))
    if whole:
        return RoutedSignal(parts=whole, which=which)
    rows = torch.arange(len(which), device=which.device)

    def own(values: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(values))[which, rows]

    given = [signal for signal in signals if isinstance(signal, TopKSignal | SampledSignal)]
    entries = [signal for signal in given if isinstance(signal, TopKSignal)]
    sampled = own([signal.sampled for signal in given])
    if not entries:
        return SampledSignal(sampled=sampled)
    return TopKSignal(
        ids=own([signal.ids for signal in entries]), log_probs=own([signal.log_probs for signal in entries]), sampled=sampled
    )
