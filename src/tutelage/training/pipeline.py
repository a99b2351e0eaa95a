"""Writing, scoring and training at the same time, in an order that no clock decides.

The responses of step `t` are written by the student after `max(t - staleness, 0)` steps, however long anything takes: a run has
the same bits on a slow machine as on a fast one, and a batch is always the prompts of its step. Whoever took what is finished
first instead would train on short responses first.

With stages of `w`, `s` and `u` seconds a step takes `max(w, s, u, (w + s + u) / (staleness + 1))`: each stage does one step at
a time, and a step's responses wait for the update `staleness + 1` steps before.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from tutelage.training.behaviour import Behaviour, Weights
from tutelage.training.lessons import Gates, Lesson, Waits, Written
from tutelage.training.workers import Worker
from tutelage.types import Author, Rollout


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ahead:
    """How far writing may run ahead of training."""

    behaviour: Behaviour
    """Gets the student's weights before each step is written; the run's writer draws from it."""
    staleness: int
    """Steps by which the student may be ahead of whoever wrote, at least 1."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Entry:
    """A step on its way."""

    written: Future[Written]
    lesson: Future[Lesson]


@final
class Pipeline:
    """Lessons that are made while earlier ones are trained on; at most `staleness + 1` are on their way."""

    def __init__(
        self,
        ahead: Ahead,
        *,
        write: Callable[[int], Written],
        teach: Callable[[Written], Lesson],
        weights: Callable[[], Weights],
        gates: Gates,
        start: int,
        num_steps: int,
    ) -> None:
        """Nothing is begun.

        Args:
            ahead: How far, and whose weights are set.
            write: Writes the responses of a step.
            teach: Judges and scores them.
            weights: A copy of what the student trains, as it is now.
            gates: Held by the stages while they work.
            start: Steps already taken.
            num_steps: Steps in all; nothing is written beyond.
        """
        self._ahead, self._write_step, self._teach_step, self._weights = ahead, write, teach, weights
        self._gates, self._taken, self._num_steps = gates, start, num_steps
        self._writing, self._teaching = Worker("writing"), Worker("teaching")
        self._entries: deque[_Entry] = deque()
        self._rested: float | None = None

    @contextmanager
    def running(self, waiting: Sequence[Written] = ()) -> Iterator["Pipeline"]:
        """Work until the end of the block; what is not begun by then is left undone.

        Args:
            waiting: What was written before, for the first steps of this run.
        """
        try:
            for written in waiting:
                done: Future[Written] = Future()
                done.set_result(written)
                self._add(done)
            self._fill()
            yield self
        finally:
            self._writing.stop()
            self._teaching.stop()
            self._writing.join()
            self._teaching.join()

    def take(self, step: int) -> Lesson:
        """See `Lessons.take`. It stays on its way until the student has moved, so that a step that fails is not lost."""
        entry, ready = self._entries[0], sum(_is_written(entry) for entry in list(self._entries)[1:])
        began = time.perf_counter()
        written = entry.written.result()
        between = time.perf_counter()
        lesson = entry.lesson.result()
        waits = Waits(
            rollout_seconds=between - began,
            teacher_seconds=time.perf_counter() - between,
            update_seconds=written.idle_seconds,
            queue_steps=ready,
        )
        return replace(lesson, waits=waits)

    def moved(self) -> None:
        """The step is done: the next one may be written, by the student as it is now."""
        self._entries.popleft()
        self._taken += 1
        self._fill()

    def waiting(self) -> list[Written]:
        """Waits for the writer. After a step that could not be written there are none."""
        found = list[Written]()
        for entry in self._entries:
            if entry.written.exception() is not None:
                break
            found.append(entry.written.result())
        return found

    def _fill(self) -> None:
        """Begin the steps that may be on their way and are not, by the student as it is now; at the end there are none."""
        beyond = min(self._taken + self._ahead.staleness + 1, self._num_steps)
        if steps := range(self._taken + len(self._entries), beyond):
            weights = self._weights()
            for step in steps:
                self._add(self._writing.submit(partial(self._write, step, weights, self._taken)))

    def _add(self, written: Future[Written]) -> None:
        self._entries.append(_Entry(written=written, lesson=self._teaching.submit(partial(self._teach, written))))

    def _write(self, step: int, weights: Weights, policy_step: int) -> Written:
        idle = 0.0 if self._rested is None else time.perf_counter() - self._rested
        with self._gates.writing:
            self._ahead.behaviour.load(weights)
            found = self._write_step(step)
        self._rested = time.perf_counter()
        rollouts = [_written_by(rollout, policy_step) for rollout in found.rollouts]
        return replace(found, rollouts=rollouts, idle_seconds=idle)

    def _teach(self, written: Future[Written]) -> Lesson:
        if written.exception() is not None:
            raise CancelledError
        with self._gates.teaching:
            return self._teach_step(written.result())


def _is_written(entry: _Entry) -> bool:
    return entry.written.done() and not entry.written.cancelled() and entry.written.exception() is None


def _written_by(rollout: Rollout, policy_step: int) -> Rollout:
    """With the steps that its writer had taken; given responses have no writer that takes steps."""
    if not bool((rollout.authors == Author.STUDENT).any()):
        return rollout
    return replace(rollout, policy_step=policy_step)
