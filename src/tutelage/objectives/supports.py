"""On which vocabulary entries a divergence acts."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math.supports import renormalise, tail_of, top_entries, with_tail
from tutelage.types import Capability
from tutelage.weighting.base import Rows

Pair = tuple[Float[Tensor, "row event"], Float[Tensor, "row event"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FullVocabulary:
    """Every entry."""

    kind: Literal["full_vocabulary"] = "full_vocabulary"

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's whole distribution."""
        return frozenset({"full"})

    def restrict(self, rows: Rows, *, teacher: str) -> Pair:
        """Both sides as they are."""
        return rows.student, rows.teachers[teacher].full()


@dataclass(frozen=True, kw_only=True, slots=True)
class TopK:
    """The `k` likeliest entries of one side.

    `rest` says what becomes of the others. `tail`: they are one further event; the divergence is a lower bound of the full
    one. `renormalise`: both sides are conditioned on the kept entries; how much mass lies outside is forgotten.
    `truncate`: the sum simply stops; it is no divergence, can be negative, and for the reverse KL its gradient carries an
    extra `sum grad pi_S` that pushes mass out of the set.
    """

    kind: Literal["top_k"] = "top_k"
    k: int
    chosen_by: Literal["student", "teacher"] = "teacher"
    rest: Literal["tail", "renormalise", "truncate"] = "tail"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"TopK needs k >= 1, got {self.k!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """The student's choice of entries needs any entry of the teacher; the teacher's own choice only those."""
        return frozenset({"full" if self.chosen_by == "student" else "top_k"})

    def restrict(self, rows: Rows, *, teacher: str) -> Pair:
        """Both sides on the same entries."""
        theirs = rows.teachers[teacher]
        if self.chosen_by == "student" or theirs.log_probs is not None:
            full = theirs.full()
            ids = top_entries(rows.student if self.chosen_by == "student" else full, self.k)
            kept, tail = full.gather(-1, ids), None
        else:
            if theirs.top_ids is None or theirs.top_log_probs is None or theirs.top_ids.shape[-1] < self.k:
                raise ConfigError(f"A term needs the teacher's top {self.k} entries, and the teacher gives fewer. Lower k.")
            full = None
            ids, kept = theirs.top_ids[:, : self.k], theirs.top_log_probs[:, : self.k]
            tail = tail_of(kept)
        own = rows.student.gather(-1, ids)
        match self.rest:
            case "renormalise":
                return renormalise(own), renormalise(kept)
            case "truncate":
                return own, kept
            case "tail":
                if full is None:
                    assert tail is not None
                    return with_tail(own, rows.student, ids), torch.cat([kept, tail], dim=-1)
                return with_tail(own, rows.student, ids), with_tail(kept, full, ids)
