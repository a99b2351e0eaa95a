"""On which vocabulary entries a divergence acts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math.supports import renormalise, tail_of, top_entries, with_tail
from tutelage.objectives.linearise import Linearised, of_events
from tutelage.types import Capability
from tutelage.weighting.base import Rows

Events = Float[Tensor, "row event"]
Pair = tuple[Events, Events]


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
        ids, theirs = self._choose(rows, teacher)
        return self._condition(self._events(rows.student, ids)), self._condition(theirs)

    def linearise(
        self, rows: Rows, *, teacher: str, divergence: Callable[[Events, Events], Float[Tensor, " row"]]
    ) -> Linearised:
        """A divergence of student and teacher on this support, differentiated on the few events only."""
        ids, theirs = self._choose(rows, teacher)
        target = self._condition(theirs)
        own = self._events(rows.student.detach(), ids)
        return of_events(lambda events: divergence(self._condition(events), target), own, ids, rows.student)

    def _choose(self, rows: Rows, teacher: str) -> tuple[Int[Tensor, "row top"], Events]:
        """The entries, and the teacher's log-probabilities of them and, for a tail, of the rest."""
        theirs = rows.teachers[teacher]
        if self.chosen_by == "student" or theirs.log_probs is not None:
            full = theirs.full()
            ids = top_entries(rows.student if self.chosen_by == "student" else full, self.k)
            return ids, self._events(full, ids)
        if theirs.top_ids is None or theirs.top_log_probs is None or theirs.top_ids.shape[-1] < self.k:
            given = 0 if theirs.top_ids is None else theirs.top_ids.shape[-1]
            raise ConfigError(
                f"A term needs the teacher's top {self.k} entries, and the teacher gives {given}. "
                "Lower the support's k, or have the teacher return more."
            )
        ids, kept = theirs.top_ids[:, : self.k], theirs.top_log_probs[:, : self.k]
        if self.rest == "tail" and self.k < rows.student.shape[-1]:
            return ids, torch.cat([kept, tail_of(kept)], dim=-1)
        return ids, kept

    def _events(self, full: Float[Tensor, "row vocab"], ids: Int[Tensor, "row top"]) -> Events:
        kept = full.gather(-1, ids)
        return with_tail(kept, full, ids) if self.rest == "tail" else kept

    def _condition(self, events: Events) -> Events:
        return renormalise(events) if self.rest == "renormalise" else events
