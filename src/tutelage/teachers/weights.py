"""Whose weights teach: another model's, or the student's own as they were, as they are, or on average."""

from collections.abc import Mapping
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor

from tutelage.errors import CheckpointError
from tutelage.models.language_model import LanguageModel
from tutelage.teachers.parts import Average, Frozen, Live, Periodic, SelfTeacher


@runtime_checkable
class TeacherWeights(Protocol):
    """A model that teaches, and how it moves."""

    @property
    def model(self) -> LanguageModel:
        """What scores; never in a graph."""
        ...

    def update(self, student: LanguageModel) -> None:
        """Follow the student after an optimiser step."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What cannot be rebuilt from the model folders that the run started from."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state."""
        ...


@final
class FixedWeights:
    """Weights that stay: another model, or the student as it was before the first step."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def update(self, student: LanguageModel) -> None:
        """Stays."""

    def state_dict(self) -> dict[str, Tensor]:
        """Empty: the weights lie in the folder that the run started from."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Accepts the empty state only."""
        _require_names(state, expected=())


@final
class LiveWeights:
    """The student's own weights at every moment."""

    def __init__(self, student: LanguageModel) -> None:
        self.model = student

    def update(self, student: LanguageModel) -> None:
        """Nothing to do: the weights are shared."""

    def state_dict(self) -> dict[str, Tensor]:
        """Empty: the checkpoint has the student."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Accepts the empty state only."""
        _require_names(state, expected=())


@final
class AverageWeights:
    """An exponential moving average of what the student trains; it starts as the student, adapter included.

    The average is kept in float32 at least: in bfloat16 a step of a thousandth is lost to rounding.
    """

    def __init__(self, student: LanguageModel, *, rate: float) -> None:
        trained = {name for name, parameter in student.model.named_parameters() if parameter.requires_grad}
        self.model = student.clone_frozen()
        self._rate = rate
        self._parameters = {name: parameter for name, parameter in self.model.model.named_parameters() if name in trained}
        self._average = {
            name: parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))  # no copy in float32
            for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self, student: LanguageModel) -> None:
        """`average += rate * (student - average)` for every trained parameter."""
        current = dict(student.model.named_parameters())
        for name, average in self._average.items():
            average.lerp_(current[name].to(average), self._rate)
        self._publish()

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from saved averages.

        Raises:
            CheckpointError: The names or shapes are those of another model.
        """
        _require_names(state, expected=self._average)
        for name, average in self._average.items():
            if state[name].shape != average.shape:
                raise CheckpointError(
                    f"The saved teacher's {name!r} has shape {tuple(state[name].shape)}, expected {tuple(average.shape)}: it "
                    "belongs to another model. Resume with the student that the run was started with."
                )
            average.copy_(state[name])
        self._publish()

    def _publish(self) -> None:
        for name, parameter in self._parameters.items():
            if parameter.dtype != self._average[name].dtype:
                parameter.copy_(self._average[name])


@final
class CopiedWeights:
    """The student as it was at the last copy; the first is made at once."""

    def __init__(self, student: LanguageModel, *, every: int) -> None:
        self._copy = AverageWeights(student, rate=1.0)
        self._every, self._age = every, 0

    @property
    def model(self) -> LanguageModel:
        """The copy."""
        return self._copy.model

    def update(self, student: LanguageModel) -> None:
        """Copy the student where it is time."""
        self._age += 1
        if self._age == self._every:
            self._copy.update(student)
            self._age = 0

    def state_dict(self) -> dict[str, Tensor]:
        """The copy by parameter name, and the steps since it was made."""
        return {**self._copy.state_dict(), _AGE: torch.tensor(self._age)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved copy.

        Raises:
            CheckpointError: The names or shapes are those of another model.
        """
        if _AGE not in state:
            _require_names(state, expected=self.state_dict())
        self._copy.load_state_dict({name: value for name, value in state.items() if name != _AGE})
        self._age = int(state[_AGE])


_AGE = "steps since the last copy"


def own_weights(part: SelfTeacher, student: LanguageModel) -> TeacherWeights:
    """The weights of a self teacher.

    Call it before the first optimiser step and before a checkpoint is loaded into the student: all but `Live` start from the
    student as it is at this moment.
    """
    match part.update:
        case Frozen():
            return FixedWeights(student.clone_frozen())
        case Live():
            return LiveWeights(student)
        case Average(rate=rate):
            return AverageWeights(student, rate=rate)
        case Periodic(every=every):
            return CopiedWeights(student, every=every)


def _require_names(state: Mapping[str, Tensor], *, expected: Mapping[str, Tensor] | tuple[()]) -> None:
    if odd := sorted(set(state).symmetric_difference(expected)):
        raise CheckpointError(
            f"The saved teacher does not match this recipe's: {len(odd)} parameters stand on one side only, the first is "
            f"{odd[0]!r}. Resume with the recipe and the student that the run was started with."
        )
