"""What only the teacher reads: the choices, as values. `teachers.contexts` carries them out."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tutelage.errors import ConfigError
from tutelage.types import VerdictField

Reads = Literal["example", "step"]
"""`example`: a context is the same for all responses to a prompt. `step`: it depends on what was written in this step."""

_MARKS = "<<<\n{context}\n>>>"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoContext:
    """The teacher reads what the student read."""

    kind: Literal["none"] = "none"

    reads: ClassVar[Reads] = "example"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceSolution:
    """The teacher also reads a reference, placed into the last user turn (or after a plain-text prompt).

    Reference: OPSD, arXiv:2601.18734 (the wording of the template is ours).
    """

    kind: Literal["reference_solution"] = "reference_solution"
    column: str = "solution"
    """Which column of the data set is shown: `solution`, `answer`, `privileged_context`, or any further one."""
    share: float = 1.0
    """How much of it is shown, from its beginning, in (0, 1]."""
    template: str = (
        "{prompt}\n\nHere is a reference solution, between the marks, for you alone:\n" + _MARKS + "\n"
        "Understand it, then solve the problem in your own words, step by step."
    )
    """`{prompt}` and `{context}` are filled in; nothing in the data is treated as a template."""
    plain_template: str = "{context}\n{prompt}"
    """The same for plain-text prompts, which have no turns."""
    max_context_tokens: int = 4096
    """A longer reference is cut in the middle, never the question; 0 never cuts."""
    missing: Literal["skip", "refuse"] = "skip"
    """What happens to an example without the column: its rollouts teach nothing (counted), or the run is refused."""

    reads: ClassVar[Reads] = "example"

    def __post_init__(self) -> None:
        _check(self)
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(f"ReferenceSolution needs 0 < share <= 1, got {self.share!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerSolution:
    """The teacher also reads a right response to the same prompt that was written beside this one in the same step.

    Never the response itself, which the teacher would only copy. Which peer is shown does not depend on the order of the
    group: the first right one after the response itself, going round.

    Reference: SDPO, arXiv:2601.20802 (it takes the first right one of the group; the wording of the template is ours).
    """

    kind: Literal["peer_solution"] = "peer_solution"
    template: str = (
        "{prompt}\n\nHere is a correct solution, between the marks, for you alone:\n" + _MARKS + "\n"
        "Correctly solve the original question."
    )
    """`{prompt}` and `{context}` are filled in; nothing in the data is treated as a template."""
    plain_template: str = "{context}\n{prompt}"
    """The same for plain-text prompts, which have no turns."""
    max_context_tokens: int = 4096
    """A longer peer is cut in the middle, never the question; 0 never cuts."""
    remove: str | None = None
    r"""Regular expression of what is taken out of the peer first, for example `<think>.*?</think>`."""

    reads: ClassVar[Reads] = "step"
    verdicts: ClassVar[frozenset[VerdictField]] = frozenset({"correct"})

    def __post_init__(self) -> None:
        _check(self)
        try:
            re.compile(self.remove or "")
        except re.error as error:
            raise ConfigError(f"PeerSolution.remove {self.remove!r} is no regular expression: {error}. Mend it.") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptFeedback:
    """The teacher also reads what the verifier said of this very response.

    Reference: SDPO, arXiv:2601.20802 (the wording of the template is ours).
    """

    kind: Literal["attempt_feedback"] = "attempt_feedback"
    template: str = (
        "{prompt}\n\nFeedback on an earlier, unsuccessful attempt, between the marks, for you alone:\n" + _MARKS + "\n"
        "Correctly solve the original question."
    )
    """`{prompt}` and `{context}` are filled in; nothing in the data is treated as a template."""
    plain_template: str = "{context}\n{prompt}"
    """The same for plain-text prompts, which have no turns."""
    max_context_tokens: int = 4096
    """Longer feedback is cut in the middle, never the question; 0 never cuts."""

    reads: ClassVar[Reads] = "step"
    verdicts: ClassVar[frozenset[VerdictField]] = frozenset({"feedback"})

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstAvailable:
    """The first of several contexts that a response has."""

    kind: Literal["first_available"] = "first_available"
    contexts: tuple[Annotated[ReferenceSolution | PeerSolution | AttemptFeedback, Field(discriminator="kind")], ...]
    """In the order in which they are tried."""

    def __post_init__(self) -> None:
        if not self.contexts:
            raise ConfigError("FirstAvailable needs at least one context. Use NoContext for a teacher that reads nothing more.")

    @property
    def reads(self) -> Reads:
        """`step` where one of them does."""
        return "step" if any(context.reads == "step" for context in self.contexts) else "example"

    @property
    def verdicts(self) -> frozenset[VerdictField]:
        """What the first of those that look at verdicts asks for; the later ones help where the verifier gives more."""
        asked = (context.verdicts for context in self.contexts if isinstance(context, PeerSolution | AttemptFeedback))
        return next(asked, frozenset[VerdictField]())


Context = Annotated[
    NoContext | ReferenceSolution | PeerSolution | AttemptFeedback | FirstAvailable, Field(discriminator="kind")
]


def columns_of(context: Context) -> tuple[str, ...]:
    """Columns of the data set that a context shows."""
    match context:
        case ReferenceSolution(column=column):
            return (column,)
        case FirstAvailable(contexts=contexts):
            return tuple(context.column for context in contexts if isinstance(context, ReferenceSolution))
        case _:
            return ()


def _check(context: ReferenceSolution | PeerSolution | AttemptFeedback) -> None:
    who = type(context).__name__
    for name, template in (("template", context.template), ("plain_template", context.plain_template)):
        if "{prompt}" not in template or "{context}" not in template:
            raise ConfigError(f"{who}.{name} needs both {{prompt}} and {{context}}, got {template!r}.")
    if context.max_context_tokens < 0 or 0 < context.max_context_tokens < 16:
        raise ConfigError(
            f"{who} needs max_context_tokens >= 16, or 0 to never cut, got {context.max_context_tokens!r}: less leaves nothing "
            "of a reference but the mark of the cut."
        )
