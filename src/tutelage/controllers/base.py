"""What a controller does in a run, and what it may use."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tutelage.models import LanguageModel


@runtime_checkable
class Controller(Protocol):
    """A rule at work."""

    def observe(self, step: int) -> Mapping[str, float]:
        """Called after each optimiser step with the steps taken so far.

        Returns:
            Metrics of the registry's family `control`; empty where there was nothing to do.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on to the same bits."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        ...


@runtime_checkable
class Instruments(Protocol):
    """What a run offers to its controllers. Nothing here changes weights, optimiser or data order."""

    student: LanguageModel
    controls: dict[str, float]
    """Values of the controlled settings, by name; what is written here holds from the next step on."""
    max_new_tokens: int
    """Longest response in tokens."""

    def gradients(self, responses: int, *, cuts: Sequence[int], step: int) -> list[list[Tensor]]:
        """The objective's gradient on whole responses to a step's prompts, once for each cut.

        Args:
            responses: How many are written, at least; groups stay whole.
            cuts: Tokens of each response, from its start, that the objective may act on.
            step: Optimiser steps taken.

        Returns:
            For each cut the gradient of each trainable parameter, shaped like it.
        """
        ...

    def score(self, num_prompts: int) -> float:
        """Mean reward of the student's greedy responses to the first training prompts."""
        ...
