"""Sources in which several responses are written and one is chosen."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from tutelage.errors import ConfigError
from tutelage.rollouts.sources.sampling import Sampling
from tutelage.types import VerdictField


@dataclass(frozen=True, kw_only=True, slots=True)
class BestTeacherRollouts:
    """The student writes, and beside its responses to a prompt stands the best of several by the teacher.

    The best is, in this order: among the right ones that which overlaps most with the student; where none is right, a right one
    that the teacher wrote after reading a hint; else that which overlaps most, or none at all. The overlap is the share of the
    response's tokens that are among the student's likeliest entries at their place, for the student as it is. The teacher does
    not move and writes to each prompt once for the whole run.

    Reference: BRTS, arXiv:2605.09725.
    """

    kind: Literal["best_teacher"] = "best_teacher"
    sampling: Sampling = Sampling(n=2)
    """How the student's tokens are drawn."""
    teacher_n: int = 2
    """Responses by the teacher to choose among."""
    teacher_temperature: float = 0.7
    """Divides the teacher's logits."""
    teacher_top_p: float = 0.95
    """Smallest set of the teacher's likeliest tokens with at least this mass."""
    overlap_k: int = 16
    """The student's likeliest entries that count as overlap."""
    hints: int = 1
    """Responses that the teacher writes with the hint where none is right; 0 asks no second time."""
    hint_column: str = "solution"
    """Column of the data set that the hint is taken from; an example without it gets none."""
    otherwise: Literal["closest", "skip"] = "closest"
    """What is taken where no response is right at last."""

    verdicts: ClassVar[frozenset[VerdictField]] = frozenset({"correct"})

    def __post_init__(self) -> None:
        if self.overlap_k < 1 or self.hints < 0:
            raise ConfigError(
                f"BestTeacherRollouts needs overlap_k >= 1 and hints >= 0, got {self.overlap_k!r} and {self.hints!r}."
            )
        _ = self.teacher_sampling  # is refused here and not at the first step

    @property
    def teacher_sampling(self) -> Sampling:
        """How the teacher's tokens are drawn; its responses are as long as the student's may be."""
        return Sampling(
            n=self.teacher_n,
            temperature=self.teacher_temperature,
            top_p=self.teacher_top_p,
            max_new_tokens=self.sampling.max_new_tokens,
        )
