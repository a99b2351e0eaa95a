"""On which vocabulary entries a divergence acts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math.supports import distinct, renormalise, shared, tail_of, top_entries, with_tail
from tutelage.objectives.linearise import Linearised, of_events
from tutelage.types import Capability
from tutelage.weighting.base import Rows, TeacherRows

Events = Float[Tensor, "row event"]
Pair = tuple[Events, Events]
OnEvents = Callable[[Events, Events], Float[Tensor, " row"]]
"""A divergence of student and teacher on the same events."""
Chooser = Literal["student", "teacher", "union", "intersection"]
"""Whose likeliest entries: one side's, those of at least one side, or those of both."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chosen:
    """Entries per row, with the teacher's log-probabilities of the events they make."""

    ids: Int[Tensor, "row entry"]
    kept: Bool[Tensor, "row entry"] | None
    """False where a place is empty, so that rows may keep different numbers of entries; None where no place is."""
    theirs: Events
    """Of the entries (-inf at an empty place) and, where there is a tail, of the rest."""


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
    """The `k` likeliest entries of one side, of either, or of both.

    `rest` says what becomes of the others. `tail`: they are one further event; the divergence is a lower bound of the full
    one. `renormalise`: both sides are conditioned on the kept entries; how much mass lies outside is forgotten, and a set of
    one entry has no divergence at all. `truncate`: the sum simply stops; it is no divergence, can be negative, and for the
    reverse KL its gradient carries an extra `sum grad pi_S` that pushes mass out of the set. An empty intersection is zero.
    """

    kind: Literal["top_k"] = "top_k"
    k: int
    chosen_by: Chooser = "teacher"
    rest: Literal["tail", "renormalise", "truncate"] = "tail"
    include_sampled: bool = False
    """Also keep the row's own token. With k = 1 and a served teacher this is the binary or ternary KL of public scripts,
    which holds only a part of the full one."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"TopK needs k >= 1, got {self.k!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """A choice in which the student has a part needs any entry of the teacher; the teacher's own choice only those."""
        if self.chosen_by != "teacher":
            return frozenset({"full"})
        return frozenset({"top_k", "sampled"} if self.include_sampled else {"top_k"})

    def restrict(self, rows: Rows, *, teacher: str) -> Pair:
        """Both sides on the same entries."""
        chosen = self.choose(rows, teacher)
        own = events_of(rows.student, chosen.ids, chosen.kept, tail=self.rest == "tail")
        return self._condition(own), self._condition(chosen.theirs)

    def linearise(self, rows: Rows, *, teacher: str, divergence: OnEvents) -> Linearised:
        """A divergence of student and teacher on this support, differentiated on the few events only."""
        chosen = self.choose(rows, teacher)
        target = self._condition(chosen.theirs)
        own = events_of(rows.student.detach(), chosen.ids, chosen.kept, tail=self.rest == "tail")
        return of_events(
            lambda events: divergence(self._condition(events), target), own, chosen.ids, rows.student, kept=chosen.kept
        )

    def choose(self, rows: Rows, teacher: str) -> Chosen:
        """The entries, and what the teacher says about them.

        Raises:
            ConfigError: The teacher gives fewer entries than the choice takes.
        """
        theirs, tail = rows.teachers[teacher], self.rest == "tail"
        if self.chosen_by == "teacher" and theirs.log_probs is None:
            return self._choose_served(rows, theirs, tail=tail)
        full = theirs.full()
        ids, kept = self._likeliest(rows.student, full)
        if self.include_sampled:
            ids, kept = _with_sampled(ids, kept, rows)
        return Chosen(ids=ids, kept=kept, theirs=events_of(full, ids, kept, tail=tail))

    def _likeliest(
        self, student: Float[Tensor, "row vocab"], teacher: Float[Tensor, "row vocab"]
    ) -> tuple[Int[Tensor, "row entry"], Bool[Tensor, "row entry"] | None]:
        match self.chosen_by:
            case "student":
                return top_entries(student, self.k), None
            case "teacher":
                return top_entries(teacher, self.k), None
            case "union":
                ids = torch.cat([top_entries(student, self.k), top_entries(teacher, self.k)], dim=-1)
                return ids, distinct(ids)
            case "intersection":
                ids = top_entries(student, self.k)
                return ids, shared(ids, top_entries(teacher, self.k))

    def _choose_served(self, rows: Rows, theirs: TeacherRows, *, tail: bool) -> Chosen:
        if theirs.top_ids is None or theirs.top_log_probs is None or theirs.top_ids.shape[-1] < self.k:
            given = 0 if theirs.top_ids is None else theirs.top_ids.shape[-1]
            raise ConfigError(
                f"A term needs the teacher's top {self.k} entries, and the teacher gives {given}. "
                "Lower the support's k, or have the teacher return more."
            )
        ids, kept, log_probs = theirs.top_ids[:, : self.k], None, theirs.top_log_probs[:, : self.k]
        if self.include_sampled:
            ids, kept = _with_sampled(ids, kept, rows)
            log_probs = torch.cat([log_probs, theirs.sampled.unsqueeze(-1)], dim=-1).masked_fill(~kept, float("-inf"))
        return Chosen(ids=ids, kept=kept, theirs=_with_rest(log_probs, kept, rows) if tail else log_probs)

    def _condition(self, events: Events) -> Events:
        return renormalise(events) if self.rest == "renormalise" else events


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledToken:
    """Two events, the row's own token and all others: a lower bound of the full divergence that any teacher can serve.

    It sees a small part of it only; the score function on the same two numbers is unbiased.
    """

    kind: Literal["sampled_token"] = "sampled_token"

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probability of the sampled token."""
        return frozenset({"sampled"})

    def restrict(self, rows: Rows, *, teacher: str) -> Pair:
        """Both sides on the two events."""
        ids, theirs = self._choose(rows, teacher)
        return events_of(rows.student, ids, None, tail=True), theirs

    def linearise(self, rows: Rows, *, teacher: str, divergence: OnEvents) -> Linearised:
        """A divergence of student and teacher on the two events."""
        ids, theirs = self._choose(rows, teacher)
        own = events_of(rows.student.detach(), ids, None, tail=True)
        return of_events(lambda events: divergence(events, theirs), own, ids, rows.student)

    def _choose(self, rows: Rows, teacher: str) -> tuple[Int[Tensor, "row entry"], Events]:
        ids, theirs = rows.batch.token.unsqueeze(-1), rows.teachers[teacher]
        if theirs.log_probs is not None:
            return ids, events_of(theirs.log_probs, ids, None, tail=True)
        return ids, _with_rest(theirs.sampled.unsqueeze(-1), None, rows)


def events_of(
    full: Float[Tensor, "row vocab"], ids: Int[Tensor, "row entry"], kept: Bool[Tensor, "row entry"] | None, *, tail: bool
) -> Events:
    """A distribution on the chosen entries and, if asked for, one further event for all others."""
    entries = full.gather(-1, ids)
    if kept is not None:
        entries = entries.masked_fill(~kept, float("-inf"))
    return with_tail(entries, full, ids, kept=kept) if tail else entries


def _with_sampled(
    ids: Int[Tensor, "row entry"], kept: Bool[Tensor, "row entry"] | None, rows: Rows
) -> tuple[Int[Tensor, "row wider"], Bool[Tensor, "row wider"]]:
    """The row's own token in one further place, which stays empty where the token is kept already."""
    token = rows.batch.token.unsqueeze(-1)
    kept = torch.ones_like(ids, dtype=torch.bool) if kept is None else kept
    new = ~((ids == token) & kept).any(dim=-1, keepdim=True)
    return torch.cat([ids, token], dim=-1), torch.cat([kept, new], dim=-1)


def _with_rest(entries: Float[Tensor, "row entry"], kept: Bool[Tensor, "row entry"] | None, rows: Rows) -> Events:
    """A served teacher's entries and what is missing from one; nothing is missing where all entries are kept."""
    vocab = rows.student.shape[-1]
    if kept is None:
        return torch.cat([entries, tail_of(entries)], dim=-1) if entries.shape[-1] < vocab else entries
    complete = kept.sum(dim=-1, keepdim=True) == vocab
    return torch.cat([entries, tail_of(entries).masked_fill(complete, float("-inf"))], dim=-1)
