"""The writer for the source in which an environment replies to the student."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast, final

import torch

from tutelage.errors import RolloutError
from tutelage.rollouts.samples import Sample
from tutelage.rollouts.sources import EnvironmentRollouts
from tutelage.rollouts.sources.environment import REPLY
from tutelage.rollouts.writers.desk import Desk, Prompt, Reply, repeated
from tutelage.types import Author, Example, FinishReason, Rollout
from tutelage.types.functions import named_function

_Part = tuple[Sample, Author]


def environment_of(source: EnvironmentRollouts) -> Reply:
    """The function that a source names.

    Raises:
        ConfigError: It cannot be found.
    """
    return cast(Reply, named_function(source.environment, role="environment"))


@final
class EnvironmentWriter:
    """Continues all conversations of a step together, a turn at a time; each turn reads its conversation anew."""

    def __init__(self, source: EnvironmentRollouts, desk: Desk) -> None:
        self._source, self._desk = source, desk
        self._reply = desk.aids.reply or environment_of(source)

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """See `Writer.write`.

        Raises:
            RolloutError: The environment raised, or returned something that is no reply.
        """
        dialogues = [_Dialogue(place, prompts[place]) for place in repeated(len(prompts), self._source.sampling.n)]
        for turn in range(self._source.max_turns):
            if all(dialogue.finish is not None for dialogue in dialogues):
                break
            self._take_turn(dialogues, turn, step=step)
        return [dialogue.rollout(self._desk, step=step) for dialogue in dialogues]

    def state_dict(self) -> dict[str, Any]:
        """Nothing: each step writes afresh."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    def _take_turn(self, dialogues: "Sequence[_Dialogue]", turn: int, *, step: int) -> None:
        """The student's turn and the replies to it. Those that are over stay in the call, so that a place keeps its draws."""
        sampling = self._source.sampling
        rooms = [0 if dialogue.finish else sampling.max_new_tokens - dialogue.length for dialogue in dialogues]
        samples = self._desk.student.sample(
            [dialogue.ids for dialogue in dialogues],
            sampling,
            seed=self._desk.stream(step, turn + 2 if turn else 0),
            max_new_tokens=rooms,
        )
        for dialogue, sample in zip(dialogues, samples, strict=True):
            if dialogue.finish is None:
                self._note(dialogue, sample, turn)

    def _note(self, dialogue: "_Dialogue", sample: Sample, turn: int) -> None:
        dialogue.add((sample, Author.STUDENT), turn)
        if sample.finish == "length":
            dialogue.finish = "length"
            return
        dialogue.said.append(self._desk.text.decode(sample.token_ids.tolist()))
        reply = self._answer(dialogue.prompt.example, dialogue.said)
        if reply is None:
            dialogue.finish = "stop"
            return
        ids = self._desk.text.encode(self._source.template.replace(REPLY, reply))
        if turn + 1 == self._source.max_turns or dialogue.length + len(ids) >= self._source.sampling.max_new_tokens:
            dialogue.finish = "length"  # a reply that nobody could answer is left out
            return
        tokens = torch.tensor(ids, dtype=torch.long)
        unchosen = Sample(token_ids=tokens, log_probs=torch.full((len(ids),), torch.nan), finish="length")
        dialogue.add((unchosen, Author.NONE), turn)

    def _answer(self, example: Example, said: Sequence[str]) -> str | None:
        where = f"on example {example.id!r}, turn {len(said)}: {said[-1][:80]!r}"
        try:
            reply: Any = self._reply(example, tuple(said))
        except Exception as error:  # a user's function may raise anything
            raise RolloutError(
                f"{self._source.environment} raised {type(error).__name__}: {error} ({where}). An environment reads what an "
                "untrained model wrote: let it reply to what it cannot read, or return None to end the conversation."
            ) from error
        if reply is not None and not isinstance(reply, str):
            raise RolloutError(
                f"{self._source.environment} returned {reply!r} ({where}). A reply is a text, or None where the conversation "
                "is over."
            )
        return reply


@dataclass(slots=True, eq=False)
class _Dialogue:
    """One conversation while it is written."""

    place: int
    prompt: Prompt
    ids: list[int] = field(init=False)
    """Everything so far, the prompt included."""
    said: list[str] = field(default_factory=list[str])
    """Texts of the student's turns."""
    parts: list[_Part] = field(default_factory=list[_Part])
    turns: list[int] = field(default_factory=list[int])
    """Of each token of the response; a reply belongs to the turn before it."""
    finish: FinishReason | None = None
    """None while it goes on."""

    def __post_init__(self) -> None:
        self.ids = self.prompt.token_ids.tolist()

    @property
    def length(self) -> int:
        """Tokens of the response so far."""
        return len(self.turns)

    def add(self, part: _Part, turn: int) -> None:
        """Append what somebody said."""
        ids = part[0].token_ids.tolist()
        self.ids += ids
        self.turns += [turn] * len(ids)
        self.parts.append(part)

    def rollout(self, desk: Desk, *, step: int) -> Rollout:
        """The whole conversation as one response."""
        assert self.finish is not None  # the last turn ends every conversation
        written = desk.rollout(self.prompt, self.place, self.parts, step=step)
        return replace(written, finish=self.finish, turns=torch.tensor(self.turns, dtype=torch.long))
