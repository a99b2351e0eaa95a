"""What is asked of whoever scores a step, wherever its weights lie: in this process, behind a server, or nowhere any more."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Int
from torch import Tensor

from tutelage.models.language_model import LanguageModel
from tutelage.teachers.context_parts import Context
from tutelage.teachers.contexts import Attempt
from tutelage.types import Capability, Example, FullSignal, RoutedSignal, SampledSignal, StepBatch, TopKSignal


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheUse:
    """What a cache saved its teacher."""

    looked_up: int
    """Responses whose scores were looked for."""
    found: int
    """Those whose scores had been kept before."""
    asked: int
    """Responses that the teacher was asked about; one that comes twice is asked about once."""

    def __add__(self, other: "CacheUse") -> "CacheUse":
        return CacheUse(
            looked_up=self.looked_up + other.looked_up, found=self.found + other.found, asked=self.asked + other.asked
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """What a teacher said about a step."""

    signal: FullSignal | RoutedSignal | TopKSignal | SampledSignal
    """Aligned with the batch's rows, on the student's device; zeros where a row is not taught."""
    rows_taught: Bool[Tensor, " row"]
    """False for every row of a rollout that this teacher cannot teach."""
    reasons: tuple[str, ...]
    """One per rollout: `injected:...`, `skipped:...` or `unchanged:...`."""
    cache: CacheUse | None = None
    """None where no cache stands before the teacher."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TeacherPrompt:
    """What a teacher reads before a response."""

    token_ids: Int[Tensor, " prompt"] | None
    """None where the example cannot be taught."""
    reason: str


@runtime_checkable
class Reader(Protocol):
    """Who reads prompts: a model's tokenizer and limits, with or without its weights."""

    @property
    def name(self) -> str:
        """Folder, hub id or address, for messages."""
        ...

    @property
    def tokenizer(self) -> Any:
        """A transformers tokenizer; they build their classes at run time."""
        ...

    @property
    def max_context(self) -> int | None:
        """Longest sequence that the model takes, in tokens; None where it does not say."""
        ...


@runtime_checkable
class TeacherReading(Protocol):
    """The teacher's side of the prompts: one reader's, several, each of its own examples, or none that has any weights."""

    def reader(self, example: Example) -> Reader:
        """Who reads an example."""
        ...

    def prompt(
        self,
        example: Example,
        *,
        read_by_student: Int[Tensor, " prompt"],
        attempt: Attempt | None = None,
        context: Context | None = None,
    ) -> TeacherPrompt:
        """The ids that the teacher reads before a response to an example.

        Args:
            example: A row of the data set.
            read_by_student: Ids of the student's own prompt.
            attempt: The response, where it is known.
            context: Another one than the teacher's own, for a second try.
        """
        ...

    def prompts(self, batch: StepBatch) -> list[TeacherPrompt]:
        """The same for each rollout of a step, where the context may depend on what the others wrote."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Scores the tokens of a step under its own prompt: one model, several, a served one, or a cache of what one said."""

    @property
    def provides(self) -> frozenset[Capability]:
        """What its signals can give."""
        ...

    @property
    def reading(self) -> TeacherReading:
        """What it reads before a response."""
        ...

    def score(self, batch: StepBatch, *, only: Collection[int] | None = None) -> Scored:
        """What the teacher says at every row of a step, detached.

        Args:
            batch: The step.
            only: Indices of the rollouts that are asked about, where it is not all of them; the others count as not taught.

        Raises:
            TeacherError: Nothing can be taught, or the teacher failed; the message says what to do.
        """
        ...

    def update(self, student: LanguageModel) -> None:
        """Follow the student after an optimiser step, as the recipe says."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run cannot rebuild from the places it started from."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        ...
