"""A teacher that is asked about every response once, by anybody who shares its cache."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor

from tutelage.errors import CacheError, TeacherError
from tutelage.models.language_model import LanguageModel
from tutelage.scores import Entry, Request, ScoreStore, key_of
from tutelage.teachers.keeping import entries_of, signal_of
from tutelage.teachers.scorer import CacheUse, Scored, Scorer, TeacherPrompt, TeacherReading
from tutelage.types import Capability, Example, FullSignal, Head, SampledSignal, StepBatch, TopKSignal

_LOG = logging.getLogger(__name__)

_PROVIDES: Mapping[str, frozenset[Capability]] = {
    "sampled": SampledSignal.provides,
    "top_k": TopKSignal.provides,
    "hidden": FullSignal.provides,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """What is kept of a teacher, and where."""

    store: ScoreStore
    request: Request
    """How much is kept of each response; all that the signals of this run are made of."""
    vocab: int
    """Ids that student and teacher share."""
    fingerprint: Callable[[Example], str]
    """Of whoever teaches an example."""
    place: str = "memory"
    """For messages."""
    before_writing: Callable[[], None] = lambda: None
    """Called before scores are kept: writes down what is needed to use them without the teacher."""
    head: Callable[[], Head] | None = None
    """What hidden states enter; none where none are kept."""


@final
class Cached:
    """Scores from the cache; only what is not there is asked of the teacher, whose answer is kept before it is used.

    What is used is always what the cache holds, rounding included, so that a run does not depend on what was there before.
    """

    def __init__(self, teacher: Scorer, cache: Cache, *, offline: bool = False) -> None:
        """Stand before a teacher that does not move.

        Args:
            teacher: Who is asked, and who says what it reads.
            cache: What is kept, and where.
            offline: Never ask: the teacher has no weights, and what is missing is an error.
        """
        self._teacher, self._cache, self._offline = teacher, cache, offline
        self._warned, self._must_keep = False, False

    def must_keep(self) -> None:
        """From now on scores that cannot be kept are an error: there is nothing else that they are asked for."""
        self._must_keep = True

    @property
    def direct(self) -> Scorer | None:
        """The teacher itself, for what is not trained on; None where it is not loaded."""
        return None if self._offline else self._teacher

    @property
    def provides(self) -> frozenset[Capability]:
        """What the kept scores can give."""
        return _PROVIDES[self._cache.request.kind]

    @property
    def reading(self) -> TeacherReading:
        """The teacher's own."""
        return self._teacher.reading

    @torch.no_grad()
    def score(self, batch: StepBatch, *, only: Collection[int] | None = None) -> Scored:
        """What the teacher says, or once said, at every row of a step, detached; log-probabilities are at temperature 1.

        Args:
            batch: The step.
            only: Indices of the rollouts that are asked about, where it is not all of them.

        Raises:
            TeacherError: Nothing can be taught; or, offline, scores are missing.
            NumericsError: A score of the teacher is not a number.
            CacheError: The cache cannot be read, or, where it must, keeps nothing.
        """
        prompts = self.reading.prompts(batch)
        asked = range(len(prompts)) if only is None else sorted(only)
        readable = [index for index in asked if prompts[index].token_ids is not None]
        if asked and not readable:
            self._teacher.score(batch, only=asked)  # which refuses, with its reasons, unless that may happen
        rows = _rows(batch)
        readable = [index for index in readable if index in rows]
        keys = {index: self._key(batch, index, prompts[index], rows[index]) for index in readable}
        found = self._cache.store.get(set(keys.values()))
        missing = {key: index for index, key in reversed(keys.items()) if key not in found}
        kept = sum(key in found for key in keys.values())
        if missing:
            found |= self._ask(batch, missing, rows)
        entries = {index: found[key] for index, key in keys.items() if key in found}
        taught = torch.zeros(len(prompts), dtype=torch.bool, device=batch.rollout.device)
        taught[list(entries)] = True
        head = None if self._cache.head is None else self._cache.head()
        return Scored(
            signal=signal_of(batch, entries, self._cache.request, rows=rows, vocab=self._cache.vocab, head=head),
            rows_taught=taught[batch.rollout],
            reasons=tuple(prompt.reason for prompt in prompts),
            cache=CacheUse(looked_up=len(keys), found=kept, asked=len(missing)),
        )

    def update(self, student: LanguageModel) -> None:
        """It stays as it is."""

    def state_dict(self) -> dict[str, Any]:
        """What the cache does not keep by itself."""
        return {"scores": self._cache.store.state_dict(), "teacher": {} if self._offline else self._teacher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._cache.store.load_state_dict(state["scores"])
        if not self._offline:
            self._teacher.load_state_dict(state["teacher"])

    def _key(self, batch: StepBatch, index: int, prompt: TeacherPrompt, rows: Int[Tensor, " _"]) -> bytes:
        assert prompt.token_ids is not None
        rollout = batch.rollouts[index]
        return key_of(
            self._cache.fingerprint(rollout.example),
            self._cache.request,
            vocab=self._cache.vocab,
            prompt_ids=prompt.token_ids.tolist(),
            response_ids=rollout.response_ids.tolist(),
            positions=batch.position[rows].tolist(),
        )

    def _ask(self, batch: StepBatch, missing: Mapping[bytes, int], rows: Mapping[int, Int[Tensor, " _"]]) -> dict[bytes, Entry]:
        if self._offline:
            raise self._missing([batch.rollouts[index].example for index in missing.values()])
        found = self._teacher.score(batch, only=sorted(missing.values()))
        taught = {key: index for key, index in missing.items() if bool(found.rows_taught[rows[index]].all())}
        entries = entries_of(
            batch,
            found.signal,
            self._cache.request,
            rows={index: rows[index] for index in taught.values()},
            teachers={index: self._cache.fingerprint(batch.rollouts[index].example) for index in taught.values()},
        )
        fresh = {key: entries[index] for key, index in taught.items()}
        self._keep(fresh)
        return fresh

    def _keep(self, entries: Mapping[bytes, Entry]) -> None:
        try:
            self._cache.before_writing()
            self._cache.store.put(entries)
        except OSError as error:
            if self._must_keep:
                raise CacheError(
                    f"Scores cannot be kept in {self._cache.place}: {error.strerror or error}. What was kept before is intact. "
                    "Free some space, lower --scores.max-gib, or mend the folder's permissions, and start again: what is there "
                    "already is not asked for twice."
                ) from error
            if not self._warned:
                _LOG.warning(
                    "Scores cannot be kept in %s: %s. The run goes on with the teacher, which is asked again when a response "
                    "comes again. Free some space, lower --scores.max-gib (tutelage cache prune), mend the folder's "
                    "permissions, or name another one with --scores.folder.",
                    self._cache.place,
                    error.strerror or error,
                )
            self._warned = True

    def _missing(self, examples: Sequence[Example]) -> TeacherError:
        return TeacherError(
            f"The score cache {self._cache.place} has no scores ({self._cache.request.name}) for {len(examples)} responses of "
            f"this step, the first to example {examples[0].id!r}, and the run is offline: no teacher is loaded that could be "
            "asked. They were never scored, or were evicted or damaged since, or a setting changed that decides what is "
            "written or read (seed, student, sampling, templates, data). Run tutelage cache precompute with this run's "
            "settings, or set --scores.mode online."
        )


def _rows(batch: StepBatch) -> dict[int, Int[Tensor, " _"]]:
    """The rows of each rollout that has any, in the order of the rows."""
    order = batch.rollout.argsort(stable=True)
    which, counts = batch.rollout.unique(return_counts=True)  # ascending, as the order
    return dict(zip(which.tolist(), order.split(counts.tolist()), strict=True))
