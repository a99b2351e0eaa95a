"""The source in which the student talks with an environment."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError
from tutelage.rollouts.sources.sampling import Sampling
from tutelage.types.functions import require_function_name

REPLY = "{reply}"
"""Stands in a template for what the environment says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentRollouts:
    """The student writes turn by turn, and a function of yours replies to each turn.

    The function is called as `reply(example, turns)` with the data set's row and the texts of the student's turns so far, and
    returns what the environment says next, or None where the conversation is over. It should depend on nothing else, so that
    a resumed run hears the same. A turn ends where the student writes an end of sequence. The environment's tokens stand in
    the response but belong to nobody: no term acts on them.
    """

    kind: Literal["environment"] = "environment"
    environment: str
    """`package.module:function` or `file.py:function`. Its code runs in this process."""
    sampling: Sampling = Sampling()
    """How tokens are drawn. `max_new_tokens` bounds the whole response, the environment's tokens included."""
    max_turns: int = 16
    """Most turns of the student. A conversation that is not over by then is cut."""
    template: str = REPLY
    """Put around each reply, such as the markers of a chat template between two turns of the assistant."""

    def __post_init__(self) -> None:
        require_function_name(self.environment, setting="EnvironmentRollouts.environment")
        if self.max_turns < 1:
            raise ConfigError(f"EnvironmentRollouts needs max_turns >= 1, got {self.max_turns!r}.")
        if self.template.count(REPLY) != 1:
            raise ConfigError(
                f"EnvironmentRollouts.template {self.template!r} must hold {REPLY!r} once: it stands for what is said."
            )
