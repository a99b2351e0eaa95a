"""From prompts to rollouts: whoever the recipe says writes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from tutelage.errors import DataError
from tutelage.rollouts.sampler import Sampler
from tutelage.rollouts.sources import (
    AnyRollouts,
    BestTeacherRollouts,
    BlendedRollouts,
    BufferedRollouts,
    EnvironmentRollouts,
    ReplayRollouts,
    WatchedRollouts,
)
from tutelage.rollouts.writers.beside import BlendedWriter, WatchedWriter
from tutelage.rollouts.writers.chosen import BestTeacherWriter
from tutelage.rollouts.writers.desk import Aids, Desk, Prompt, Reply, Text, Writer
from tutelage.rollouts.writers.environment import EnvironmentWriter, environment_of
from tutelage.rollouts.writers.plain import PlainWriter, given_responses
from tutelage.rollouts.writers.stored import BufferedWriter, ReplayWriter
from tutelage.types import Rollout

__all__ = ["Aids", "Prompt", "Reply", "RolloutWriter", "Text", "environment_of", "given_responses"]


@final
class RolloutWriter:
    """Writes the responses of a step."""

    def __init__(
        self,
        source: AnyRollouts,
        *,
        student: Sampler,
        text: Text,
        seed: int,
        teacher: Sampler | None = None,
        teacher_reads: Callable[[Prompt], list[int]] = lambda prompt: prompt.token_ids.tolist(),
        aids: Aids = Aids(),
    ) -> None:
        """Choose who writes.

        Args:
            source: The recipe's choice.
            student: Samples from the student as it is.
            text: Between ids and text.
            seed: Of the run; with the step it decides all draws.
            teacher: Samples from the teacher, where the recipe lets it write.
            teacher_reads: The ids that the teacher reads before it writes: its own chat template and context may differ.
            aids: What only some sources use.
        """
        desk = Desk(student=student, text=text, seed=seed, teacher=teacher, teacher_reads=teacher_reads, aids=aids)
        self._writer = _writer_of(source, desk)

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """Responses to a step's prompts; those of one prompt lie together and share a group.

        Raises:
            DataError: The recipe trains on a column that an example lacks, or a prompt has no tokens.
        """
        for prompt in prompts:
            _require_tokens(prompt)
        return self._writer.write(prompts, step=step)

    def state_dict(self) -> dict[str, Any]:
        """What was written and is still needed, so that a resumed run goes on to the same bits."""
        return self._writer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the responses of a saved run."""
        self._writer.load_state_dict(state)


def _writer_of(source: AnyRollouts, desk: Desk) -> Writer:
    match source:
        case BlendedRollouts():
            return BlendedWriter(source, desk)
        case WatchedRollouts():
            return WatchedWriter(source, desk)
        case ReplayRollouts():
            return ReplayWriter(source, desk)
        case BestTeacherRollouts():
            return BestTeacherWriter(source, desk)
        case BufferedRollouts():
            return BufferedWriter(source, desk)
        case EnvironmentRollouts():
            return EnvironmentWriter(source, desk)
        case _:
            return PlainWriter(source, desk)


def _require_tokens(prompt: Prompt) -> None:
    if len(prompt.token_ids) == 0:
        raise DataError(
            f"The prompt of example {prompt.example.id!r} has no tokens, so nothing predicts the first token of a response. "
            "Drop the row, or wrap plain text into a turn (wrap_prompts = 'always')."
        )
