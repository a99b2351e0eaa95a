"""Score functions over enumerated actions: the likeliest entries take the place of one sampled token."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math.supports import renormalise
from tutelage.objectives.linearise import Linearised
from tutelage.objectives.supports import Chooser, Chosen, TopK, events_of
from tutelage.types import Capability
from tutelage.weighting.base import Rows


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateActions:
    """`-sum_v sg[w(v) (log pi_T(v) - log pi_S(v))] log pi_S(v)` over a few entries.

    Weighed by the student's probability this is the stop-gradient top-k of the reverse KL: against the naive sum it lacks
    `sum_v grad pi_S(v)`, which pushes mass out of the set, so an entry is promoted if the teacher gives it more than the
    student does. At k = vocab the gradient is that of the reverse KL. The value is a surrogate; it measures nothing.

    Reference: Many Faces, arXiv:2605.11182 (`student`); Rethinking, arXiv:2604.13016 (`student_within`, k = 16).
    """

    kind: Literal["candidate_actions"] = "candidate_actions"
    k: int = 16
    """Likeliest entries taken from the choosing side."""
    chosen_by: Chooser = "student"
    """Whose likeliest entries. Their own choice apart, the teacher's whole distribution is needed."""
    weigh_by: Literal["student", "student_within", "teacher_within", "uniform"] = "student"
    """The student's probability; either side's probability within the set; or the same for every entry of the set."""
    include_sampled: bool = False
    """Also take the row's own token."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"CandidateActions needs k >= 1, got {self.k!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """Those of the choice."""
        return self._choice.needs

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The surrogate per row."""
        chosen, slope = self._slope(rows, teacher)
        return _total(slope, rows.student.gather(-1, chosen.ids))

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values, and slopes at the enumerated entries only."""
        chosen, slope = self._slope(rows, teacher)
        return Linearised(values=_total(slope, rows.student.detach().gather(-1, chosen.ids)), slope=slope, ids=chosen.ids)

    @property
    def _choice(self) -> TopK:
        return TopK(k=self.k, chosen_by=self.chosen_by, rest="truncate", include_sampled=self.include_sampled)

    def _slope(self, rows: Rows, teacher: str) -> tuple[Chosen, Float[Tensor, "row entry"]]:
        """Minus the detached advantage of each entry, zero at empty places."""
        chosen = self._choice.choose(rows, teacher)
        own = events_of(rows.student.detach(), chosen.ids, chosen.kept, tail=False)
        match self.weigh_by:
            case "student":
                weight = own.exp()
            case "student_within":
                weight = renormalise(own).exp()
            case "teacher_within":
                weight = renormalise(chosen.theirs).exp()
            case "uniform":
                filled = torch.ones_like(own) if chosen.kept is None else chosen.kept.to(own.dtype)
                weight = filled / filled.sum(dim=-1, keepdim=True).clamp(min=1.0)
        return chosen, (weight * (own - chosen.theirs)).masked_fill(weight == 0.0, 0.0)


def _total(slope: Float[Tensor, "row entry"], log_probs: Float[Tensor, "row entry"]) -> Float[Tensor, " row"]:
    """`sum slope log pi_S`, where an entry without slope may be impossible."""
    return (slope * log_probs.masked_fill(slope == 0.0, 0.0)).sum(dim=-1)
