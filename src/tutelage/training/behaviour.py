"""The student as it was, for a sampler that writes while the student moves on."""

from collections.abc import Mapping
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor

from tutelage.models import LanguageModel

Weights = Mapping[str, Tensor]
"""What the student trains, by parameter name."""


@runtime_checkable
class Behaviour(Protocol):
    """Where a sampler's weights are set."""

    def load(self, weights: Weights) -> None:
        """From now on the sampler draws from the student with these weights."""
        ...


@final
class BehaviourCopy:
    """A copy of the student in this process; what the student does not train is shared with it."""

    def __init__(self, student: LanguageModel) -> None:
        """Copy the student as it is now."""
        self.model = student.clone_frozen()
        parameters = dict(self.model.model.named_parameters())
        self._trained = {name: parameters[name] for name in student.trainable_state()}

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """See `Behaviour.load`."""
        for name, parameter in self._trained.items():
            parameter.copy_(weights[name])


def snapshot(student: LanguageModel) -> Weights:
    """The trained weights as they are, in memory of their own."""
    return {name: value.clone() for name, value in student.trainable_state().items()}
