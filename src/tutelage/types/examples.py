"""One row of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Message = Mapping[str, Any]
"""One turn of a conversation: at least `role` and `content`."""

FinishReason = Literal["stop", "length"]
"""`stop`: the writer ended the response itself. `length`: it was cut, and a cut is never an end of sequence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One row of a data set, its columns under canonical names."""

    id: str
    """Stable name of the row: its `id` column, or the source's name and row number."""
    prompt: str | tuple[Message, ...]
    """Plain text, or a conversation that ends before the response."""
    response: str | None = None
    """The data set's own response: the last assistant turn of `messages`, where there is one."""
    finish_reason: FinishReason | None = None
    """How that response ended; None means that its writer ended it."""
    answer: str | None = None
    """Short reference answer, for verifiers."""
    solution: str | None = None
    """Worked reference solution, for privileged contexts and supervised training."""
    privileged_context: str | None = None
    """Text that only a teacher may read."""
    teacher_id: str | None = None
    """Names the teacher of this row where there are several."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Every further column, passed on to verifiers and contexts."""
