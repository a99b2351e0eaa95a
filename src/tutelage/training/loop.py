"""The loop: prompts, rollouts, verdicts, scores, step. It knows no method."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from tutelage.controllers import Controller
from tutelage.errors import Interrupted, NumericsError
from tutelage.models import LanguageModel
from tutelage.rollouts.sample import Prompt, RolloutWriter
from tutelage.training import checkpoint
from tutelage.training.checkpoint import Checkpoint, State
from tutelage.training.learner import Learner, Update
from tutelage.training.settings import CheckpointSettings
from tutelage.training.teaching import Taught, Teaching
from tutelage.types import Rollout, StepBatch, Verdict
from tutelage.verifiers import Verifier

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepRecord:
    """Everything that is known about a finished step."""

    step: int
    """Optimiser steps taken, this one included."""
    rollouts: Sequence[Rollout]
    verdicts: Sequence[Verdict]
    taught: Taught
    update: Update
    seconds: dict[str, float]
    """Wall time of each phase."""
    controls: Mapping[str, float] = field(default_factory=dict[str, float])
    """What controllers saw and did."""


@runtime_checkable
class Recorder(Protocol):
    """Where finished steps go."""

    def wants_statistics(self, step: int) -> bool:
        """Whether per-token statistics of a step will be written down."""
        ...

    def record(self, record: StepRecord) -> None:
        """Write a step down."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Parts:
    """The objects of one run, already built and fitted to each other."""

    student: LanguageModel
    prompts: Callable[[int], list[Prompt]]
    """Prompts of a step; a pure function, so that a resumed run needs no reader state."""
    writer: RolloutWriter
    verifier: Verifier
    teaching: Teaching
    learner: Learner
    controllers: Mapping[str, Controller]
    """By name; each sees every finished step."""
    recorder: Recorder
    evaluate: Callable[[int], None]
    """Called with the steps taken so far, before the first step and after each; decides itself whether it is due."""
    checkpoints: Path
    checkpointing: CheckpointSettings
    seed: int


@dataclass(slots=True)
class _Watch:
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def train(parts: Parts, *, start: int, num_steps: int, should_stop: Callable[[], bool] = lambda: False) -> Checkpoint:
    """Sample, judge, score, step; once per optimiser step.

    Args:
        parts: The run.
        start: Steps already taken.
        num_steps: Steps in all.
        should_stop: Asked between steps; True saves and ends the run.

    Returns:
        The last checkpoint.

    Raises:
        Interrupted: The run was asked to stop; its state is saved.
        NumericsError: A loss or gradient is not finite; the state before that step is saved.
    """
    if start == 0:
        parts.evaluate(0)
    saved = None
    for step in range(start, num_steps):
        if should_stop():
            path = save(parts, step=step).path
            raise Interrupted(f"Stopped after {step} of {num_steps} steps as asked; the state is in {path.name}.")
        try:
            record = _step(parts, step)
        except NumericsError:
            save(parts, step=step)
            raise
        parts.recorder.record(_observed(parts, record))
        parts.evaluate(step + 1)
        saved = save(parts, step=step + 1) if _due(parts.checkpointing, step + 1, num_steps) else None
    return saved or save(parts, step=num_steps)


def _step(parts: Parts, step: int) -> StepRecord:
    watch = _Watch()
    rollouts = parts.writer.write(parts.prompts(step), step=step)
    watch.lap("sampling")
    verdicts = parts.verifier.judge(rollouts)
    watch.lap("judging")
    batch = StepBatch.of(rollouts, verdicts, seed=parts.seed, step=step).to(parts.student.device)
    taught = parts.teaching.score(batch)
    watch.lap("scoring")
    update = parts.learner.update(taught.batch, taught.signals, step=step, statistics=parts.recorder.wants_statistics(step + 1))
    parts.teaching.update(parts.student)
    watch.lap("update")
    return StepRecord(step=step + 1, rollouts=rollouts, verdicts=verdicts, taught=taught, update=update, seconds=watch.seconds)


def _observed(parts: Parts, record: StepRecord) -> StepRecord:
    """The record with what the controllers saw and did after the step."""
    if not parts.controllers:
        return record
    watch, controls = _Watch(), dict[str, float]()
    for controller in parts.controllers.values():
        controls |= controller.observe(record.step)
    watch.lap("control")
    return replace(record, controls=controls, seconds=record.seconds | watch.seconds)


def save(parts: Parts, *, step: int) -> Checkpoint:
    """Write a checkpoint of everything that the run needs to continue to the same bits."""
    _LOG.info("Saving the state after %d steps.", step)
    return checkpoint.save(
        parts.checkpoints,
        step=step,
        state=_state(parts),
        save_student=parts.student.save,
        keep=parts.checkpointing.keep,
    )


def restore(parts: Parts, state: State) -> None:
    """Put every part back to where a checkpoint was written."""
    parts.student.load_trainable(state["student"])
    parts.learner.optimiser.load_state_dict(state["optimiser"])
    parts.writer.load_state_dict(state["writer"])
    parts.teaching.load_state_dict(state["teachers"])
    for name, controller in parts.controllers.items():
        controller.load_state_dict(state["controllers"][name])


def _state(parts: Parts) -> State:
    return {
        "student": parts.student.trainable_state(),
        "optimiser": parts.learner.optimiser.state_dict(),
        "writer": parts.writer.state_dict(),
        "teachers": parts.teaching.state_dict(),
        "controllers": {name: controller.state_dict() for name, controller in parts.controllers.items()},
    }


def _due(settings: CheckpointSettings, step: int, num_steps: int) -> bool:
    return step == num_steps or (settings.every > 0 and step % settings.every == 0)
