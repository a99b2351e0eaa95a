"""Who judges the responses: the choices, as values. `verifiers.build` carries them out."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tutelage.errors import ConfigError
from tutelage.types import VerdictField
from tutelage.types.functions import require_function_name


@dataclass(frozen=True, kw_only=True, slots=True)
class NoVerifier:
    """Nothing is judged: no accuracy, no reward."""

    kind: Literal["none"] = "none"

    provides: ClassVar[frozenset[VerdictField]] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactMatch:
    """The response's answer equals the example's `answer`, character by character."""

    kind: Literal["exact_match"] = "exact_match"
    pattern: str | None = None
    r"""Regular expression that finds the answer in the response, for example `####\s*(\S+)`: its first group in its last
    match. A response without a match is wrong. None compares the whole response."""
    strip: bool = True
    """Blanks around both sides do not count."""
    ignore_case: bool = False
    """Upper and lower case are the same."""
    remove: str = ""
    """Characters that do not count anywhere, for example `,$` in amounts of money."""

    provides: ClassVar[frozenset[VerdictField]] = frozenset({"reward", "correct"})

    def __post_init__(self) -> None:
        if self.pattern is None:
            return
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"ExactMatch.pattern {self.pattern!r} is no regular expression: {error}. Mend it.") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class MathVerifier:
    """The response's last mathematical expression equals the reference as mathematics, not as text.

    The reference is the example's `answer`, or the last expression of its `solution` where there is no answer. Compared
    by math-verify, in a process of its own.
    """

    kind: Literal["math"] = "math"
    timeout_seconds: float = 5.0
    """Longest time for one response. One that takes longer is wrong."""
    memory_mib: int = 2048
    """Bound on the process's address space, against answers such as 9^9^9^9."""

    provides: ClassVar[frozenset[VerdictField]] = frozenset({"reward", "correct"})

    def __post_init__(self) -> None:
        if self.timeout_seconds <= 0.0 or self.memory_mib < 512:
            raise ConfigError(
                f"MathVerifier needs timeout_seconds > 0 and memory_mib >= 512 (sympy alone takes a few hundred), got "
                f"{self.timeout_seconds!r} and {self.memory_mib!r}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionVerifier:
    """A function of yours, with the signature of TRL's reward functions.

    It is called with keywords `prompts`, `completions`, `completion_ids`, `trainer_state` and one list per column of the
    data set (those that it takes), and returns one number or None (= not applicable) per completion; or a `Verdict` where it
    has more to say than a number, such as feedback. It may be `async`.
    Completions are texts, or lists of one assistant turn where the prompt is a conversation.
    """

    kind: Literal["function"] = "function"
    path: str
    """`package.module:function` or `file.py:function`. Its code runs in this process."""
    correct_from: float = 0.5
    """A reward of at least this counts as correct in accuracies."""

    provides: ClassVar[frozenset[VerdictField]] = frozenset({"reward", "correct", "feedback"})

    def __post_init__(self) -> None:
        require_function_name(self.path, setting="FunctionVerifier.path")


AnyVerifier = Annotated[NoVerifier | ExactMatch | MathVerifier | FunctionVerifier, Field(discriminator="kind")]
