"""What one step is trained on, and the stages that make it: somebody writes, the verifier judges, the teachers score."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, final, runtime_checkable

import torch

from tutelage.rollouts.sample import Prompt, RolloutWriter
from tutelage.training.teaching import Taught, Teaching
from tutelage.types import Rollout, StepBatch, Verdict
from tutelage.verifiers import Verifier


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Written:
    """The responses of a step."""

    step: int
    rollouts: Sequence[Rollout]
    seconds: float
    """Wall time of the writing."""
    idle_seconds: float = 0.0
    """Wall time that the writer had stood still before, because the student was not yet as new as it had to be."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Waits:
    """How the stages waited for each other, where they work at the same time."""

    rollout_seconds: float
    """Training waited for the responses of the step."""
    teacher_seconds: float
    """After that, training waited for verdicts and scores."""
    update_seconds: float
    """The writer waited for an update, before it wrote the responses of the step."""
    queue_steps: int
    """Later steps whose responses lay ready when the step was trained."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lesson:
    """All that an update needs."""

    rollouts: Sequence[Rollout]
    verdicts: Sequence[Verdict]
    taught: Taught
    seconds: Mapping[str, float]
    """Wall time of each stage."""
    waits: Waits | None = None
    """None where the stages take turns."""


@runtime_checkable
class Lessons(Protocol):
    """Where a run's lessons come from."""

    def take(self, step: int) -> Lesson:
        """The lesson of a step; steps are taken in order.

        Raises:
            TutelageError: A stage failed at this step.
        """
        ...

    def moved(self) -> None:
        """The student has taken the step of the last lesson."""
        ...

    def waiting(self) -> list[Written]:
        """What was written for the steps from the next lesson on, that of a step not yet taken included."""
        ...


class Watch:
    """Wall time between laps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the time since the last lap, or since the start."""
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stages:
    """What happens before an update."""

    prompts: Callable[[int], list[Prompt]]
    writer: RolloutWriter
    verifier: Verifier
    teaching: Teaching
    device: torch.device
    """Where the student lies."""
    seed: int

    def write(self, step: int) -> Written:
        """Write the responses of a step."""
        watch = Watch()
        rollouts = self.writer.write(self.prompts(step), step=step)
        watch.lap("sampling")
        return Written(step=step, rollouts=rollouts, seconds=watch.seconds["sampling"])

    def teach(self, written: Written) -> Lesson:
        """Judge and score them."""
        watch = Watch()
        verdicts = self.verifier.judge(written.rollouts)
        watch.lap("judging")
        batch = StepBatch.of(written.rollouts, verdicts, seed=self.seed, step=written.step).to(self.device)
        taught = self.teaching.score(batch)
        watch.lap("scoring")
        return Lesson(
            rollouts=written.rollouts,
            verdicts=verdicts,
            taught=taught,
            seconds={"sampling": written.seconds, **watch.seconds},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Gates:
    """Held by each stage while it works, so that somebody else can have models, teachers and verifier for itself."""

    writing: threading.Lock = field(default_factory=threading.Lock)
    teaching: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Wait for what the stages are doing now, and let them begin nothing meanwhile."""
        with self.writing, self.teaching:
            yield


@final
class InTurn:
    """The stages take turns with the updates: each step is written by the student as it is."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    def take(self, step: int) -> Lesson:
        """Write, judge and score now."""
        return self._stages.teach(self._stages.write(step))

    def moved(self) -> None:
        """Nobody waits for it."""

    def waiting(self) -> list[Written]:
        """Nothing is written ahead."""
        return []
