"""Who writes the responses: the choices, as values. `rollouts.sample` carries them out."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tutelage.errors import ConfigError
from tutelage.types.schedules import Scalar, range_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are drawn."""

    n: int = 1
    """Responses per prompt."""
    temperature: float = 1.0
    """Divides the sampler's logits; the loss has temperatures of its own. 0 takes the likeliest token."""
    top_p: float = 1.0
    """Smallest set of likeliest tokens with at least this mass. Below 1 the sampled distribution is not the student's."""
    top_k: int = 0
    """Likeliest tokens kept; 0 keeps all."""
    max_new_tokens: int = 256
    """Longest response in tokens."""

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_new_tokens < 1:
            raise ConfigError(f"Sampling needs n >= 1 and max_new_tokens >= 1, got {self.n!r} and {self.max_new_tokens!r}.")
        if self.temperature < 0.0 or not 0.0 < self.top_p <= 1.0 or self.top_k < 0:
            raise ConfigError(
                f"Sampling needs temperature >= 0, 0 < top_p <= 1 and top_k >= 0, got temperature {self.temperature!r}, "
                f"top_p {self.top_p!r}, top_k {self.top_k!r}."
            )


ResponseColumn = Literal["response", "solution"]
"""Column of the data set that holds a response: the last assistant turn of `messages`, or the worked solution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentRollouts:
    """The student writes everything."""

    kind: Literal["student"] = "student"
    sampling: Sampling = Sampling()
    """How tokens are drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRollouts:
    """The data set's own responses."""

    kind: Literal["dataset"] = "dataset"
    column: ResponseColumn = "response"
    """Which column of the data set holds the response."""
    max_tokens: int = 1024
    """Longer responses are cut here, and a cut response has no end of sequence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherRollouts:
    """The teacher writes everything; each prompt's responses are written once and kept for the whole run."""

    kind: Literal["teacher"] = "teacher"
    sampling: Sampling = Sampling()
    """How tokens are drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedRollouts:
    """Each step's batch is written by the student with probability `student_fraction`, else taken from the data set.

    Reference: GKD's lambda, arXiv:2306.13649, algorithm 1.
    """

    kind: Literal["mixed"] = "mixed"
    student_fraction: float = 0.5
    """Probability in [0, 1] that a batch is the student's."""
    sampling: Sampling = Sampling()
    """How tokens are drawn."""
    otherwise: Literal["dataset", "teacher"] = "dataset"
    """Who writes the other batches."""
    column: ResponseColumn = "response"
    """Which column of the data set holds the response."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.student_fraction <= 1.0:
            raise ConfigError(f"MixedRollouts needs 0 <= student_fraction <= 1, got {self.student_fraction!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherPrefixRollouts:
    """The teacher writes the first tokens, the student goes on from there.

    Reference: the guidance of TrOPD, arXiv:2606.01249.
    """

    kind: Literal["teacher_prefix"] = "teacher_prefix"
    sampling: Sampling = Sampling()
    """How tokens are drawn."""
    prefix_fraction: Scalar = 0.0
    """Teacher's share of `max_new_tokens`, in [0, 1]; usually a cosine from 1 to 0."""

    def __post_init__(self) -> None:
        if not all(0.0 <= end <= 1.0 for end in range_of(self.prefix_fraction)):
            raise ConfigError(
                f"TeacherPrefixRollouts needs 0 <= prefix_fraction <= 1, got {self.prefix_fraction!r}: it is a share of "
                "max_new_tokens."
            )


AnyRollouts = Annotated[
    StudentRollouts | DatasetRollouts | TeacherRollouts | MixedRollouts | TeacherPrefixRollouts, Field(discriminator="kind")
]
