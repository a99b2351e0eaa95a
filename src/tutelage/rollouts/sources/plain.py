"""Sources in which student, teacher or data write one after another."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError
from tutelage.rollouts.sources.sampling import ResponseColumn, Sampling
from tutelage.types.schedules import Controlled, Scalar, range_of


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentRollouts:
    """The student writes everything."""

    kind: Literal["student"] = "student"
    sampling: Sampling = Sampling()
    """How tokens are drawn."""
    horizon: Scalar | Controlled | None = None
    """Only so many tokens of a response are written, rounded; it may move. None, or a horizon beyond `max_new_tokens`, writes
    whole responses. A response that it cuts has no end of sequence. Evaluations write whole responses."""

    def __post_init__(self) -> None:
        if self.horizon is not None and min(range_of(self.horizon)) < 1.0:
            raise ConfigError(f"StudentRollouts needs horizon >= 1 or none at all, got {self.horizon!r}: it counts tokens.")


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
