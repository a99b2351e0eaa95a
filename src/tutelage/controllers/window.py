"""A window on the response that follows the alignment of its gradient."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from tutelage.controllers.base import Instruments
from tutelage.controllers.parts import AlignedWindow


@final
class WindowController:
    """Carries `AlignedWindow` out."""

    def __init__(self, rule: AlignedWindow, instruments: Instruments) -> None:
        """The window begins where the recipe's controlled setting starts."""
        self._rule, self._instruments = rule, instruments
        self._alignment: float | None = None
        self._measured = 0

    @property
    def window(self) -> int:
        """Tokens in the window, no more than a response can have."""
        return min(round(self._instruments.controls[self._rule.control]), self._instruments.max_new_tokens)

    def observe(self, step: int) -> Mapping[str, float]:
        """See `Controller.observe`."""
        if step % self._rule.every:
            return {"control/window_tokens": float(self.window)}
        longest = self._instruments.max_new_tokens
        part, whole = self._instruments.gradients(self._rule.responses, cuts=(self.window, longest), step=step)
        found = cosine(part, whole)
        metrics = {"control/window_tokens": float(self.window), "control/alignment": found}
        self._judge(found, step)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Window, average, and when it was measured."""
        value = self._instruments.controls[self._rule.control]
        return {"window": value, "alignment": self._alignment, "measured": self._measured}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._instruments.controls[self._rule.control] = state["window"]
        self._alignment, self._measured = state["alignment"], state["measured"]

    def _judge(self, found: float, step: int) -> None:
        rule, before = self._rule, self.window
        if self._alignment is None:
            average = found
        else:
            kept = rule.memory ** ((step - self._measured) / rule.every)
            average = kept * self._alignment + (1.0 - kept) * found
        moved = float(before)
        if average < rule.low:
            moved = min(before * rule.growth, self._instruments.max_new_tokens)
        elif average > rule.high:
            moved = max(before / rule.growth, min(rule.smallest, before))
        self._instruments.controls[rule.control] = moved
        self._alignment, self._measured = average if self.window == before else None, step


def cosine(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Cosine of two gradients, each given parameter by parameter; 1 where both are zero, 0 where one is."""

    def product(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
        return torch.stack([(a.double() * b.double()).sum() for a, b in zip(left, right, strict=True)]).sum()

    lengths = (product(one, one).sqrt(), product(other, other).sqrt())
    if min(lengths) == 0.0:
        return float(max(lengths) == 0.0)
    return float(product(one, other) / (lengths[0] * lengths[1]))
