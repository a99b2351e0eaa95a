"""Statistics of a row that some weights ask for beside those that every step has; nothing here carries a gradient."""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.math.divergences import expectation, f_divergence, forward_kl
from tutelage.math.generators import JensenShannon
from tutelage.math.supports import distinct, renormalise, shared, top_entries, with_tail
from tutelage.types import Capability
from tutelage.weighting.base import Rows

PerRow = Float[Tensor, " row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EntropyShare:
    """The student's entropy over the largest that its vocabulary allows, `H_S / ln V`, in [0, 1]."""

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing of the teacher."""
        return frozenset()

    @property
    def name(self) -> str:
        """Under which it is found."""
        return "student_entropy_share"

    def __call__(self, rows: Rows, *, teacher: str) -> PerRow:
        """One share per row."""
        own = rows.student.detach()
        return (-expectation(rows.probabilities, own) / log(own.shape[-1])).clamp(0.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class DivergenceShare:
    """The Jensen-Shannon divergence of both sides over the largest that it can be, `JSD / ln 2`, in [0, 1]."""

    k: int = 0
    """Teacher's likeliest entries, the others being one event; 0 takes all entries."""

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's whole distribution."""
        return frozenset({"full"})

    @property
    def name(self) -> str:
        """Under which it is found."""
        return f"jensen_shannon_share_{self.k}"

    def __call__(self, rows: Rows, *, teacher: str) -> PerRow:
        """One share per row."""
        own, theirs = rows.student.detach(), rows.teachers[teacher].full()
        if 0 < self.k < own.shape[-1]:
            ids = top_entries(theirs, self.k)
            own, theirs = (with_tail(side.gather(-1, ids), side, ids) for side in (own, theirs))
        return (f_divergence(JensenShannon(beta=0.5), own, theirs) / log(2.0)).clamp(0.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnionDivergence:
    """KL(pi_T || pi_S) on the likeliest entries of either side, both conditioned on them, in nats."""

    k: int = 16
    """Likeliest entries of each side; a smaller vocabulary is taken whole."""

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's whole distribution."""
        return frozenset({"full"})

    @property
    def name(self) -> str:
        """Under which it is found."""
        return f"union_forward_kl_nats_{self.k}"

    def __call__(self, rows: Rows, *, teacher: str) -> PerRow:
        """One value per row."""
        own, theirs = rows.student.detach(), rows.teachers[teacher].full()
        ids = torch.cat(_likeliest(own, theirs, self.k), dim=-1)
        kept = distinct(ids)
        return forward_kl(_within(own, ids, kept), _within(theirs, ids, kept))


@dataclass(frozen=True, kw_only=True, slots=True)
class Compatibility:
    """Share of the mass of the teacher's likeliest entries that lies on the student's likeliest ones, in [0, 1]."""

    k: int = 16
    """Likeliest entries of each side; a smaller vocabulary is taken whole."""

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's whole distribution."""
        return frozenset({"full"})

    @property
    def name(self) -> str:
        """Under which it is found."""
        return f"compatibility_{self.k}"

    def __call__(self, rows: Rows, *, teacher: str) -> PerRow:
        """One share per row."""
        theirs = rows.teachers[teacher].full()
        of_student, of_teacher = _likeliest(rows.student.detach(), theirs, self.k)
        mass = renormalise(theirs.gather(-1, of_teacher)).exp()
        return (mass * shared(of_teacher, of_student)).sum(dim=-1)


def _likeliest(
    student: Float[Tensor, "row vocab"], teacher: Float[Tensor, "row vocab"], k: int
) -> tuple[Int[Tensor, "row entry"], Int[Tensor, "row entry"]]:
    k = min(k, student.shape[-1])
    return top_entries(student, k), top_entries(teacher, k)


def _within(
    full: Float[Tensor, "row vocab"], ids: Int[Tensor, "row entry"], kept: Bool[Tensor, "row entry"]
) -> Float[Tensor, "row entry"]:
    return renormalise(full.gather(-1, ids).masked_fill(~kept, float("-inf")))
