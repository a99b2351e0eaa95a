"""Steps in the direction that the weights have taken, kept where they help."""

import logging
from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from tutelage.controllers.base import Instruments
from tutelage.controllers.parts import Extrapolation

_LOG = logging.getLogger(__name__)

Weights = dict[str, Tensor]


@final
class ExtrapolationController:
    """Carries `Extrapolation` out. Holds one copy of the trained weights, and a second one during trials."""

    def __init__(self, rule: Extrapolation, instruments: Instruments) -> None:
        """The first base is the student before training."""
        self._rule, self._instruments = rule, instruments
        self._base = self._weights()

    def observe(self, step: int) -> Mapping[str, float]:
        """See `Controller.observe`."""
        if step.bit_count() != 1:  # no power of two
            return {}
        factor, accepted, score = self._rule.factor, 0, self._instruments.score(self._rule.num_prompts)
        for _ in range(self._rule.trials):
            before = self._weights()
            self._instruments.student.load_trainable(
                {name: value + factor * (value - self._base[name]) for name, value in before.items()}
            )
            found = self._instruments.score(self._rule.num_prompts)
            if found <= score:
                self._instruments.student.load_trainable(before)
                break
            accepted, score, factor = accepted + 1, found, factor / (1.0 + factor)
        self._base = self._weights()
        _LOG.info("Step %d: %d extrapolated steps were accepted, training reward %.3f.", step, accepted, score)
        return {"control/extrapolations_accepted": float(accepted), "control/extrapolation_reward": score}

    def state_dict(self) -> dict[str, Any]:
        """The weights from which the next difference is taken."""
        return {"base": self._base}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._base = {name: value.to(self._base[name].device) for name, value in state["base"].items()}

    def _weights(self) -> Weights:
        return {name: value.clone() for name, value in self._instruments.student.trainable_state().items()}
