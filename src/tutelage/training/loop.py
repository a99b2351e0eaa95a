"""The loop: prompts, rollouts, verdicts, scores, step. It knows no method."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from tutelage.controllers import Controller
from tutelage.errors import Interrupted, TutelageError
from tutelage.models import LanguageModel
from tutelage.rollouts.sample import Prompt, RolloutWriter
from tutelage.training import checkpoint
from tutelage.training.behaviour import snapshot
from tutelage.training.checkpoint import Checkpoint, State
from tutelage.training.learner import Learner, Update
from tutelage.training.lessons import Gates, InTurn, Lessons, Stages, Waits, Watch, Written
from tutelage.training.pipeline import Ahead, Pipeline
from tutelage.training.settings import CheckpointSettings
from tutelage.training.teaching import Taught, Teaching
from tutelage.training.waiting import as_values, from_values
from tutelage.types import Rollout, Verdict
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
    waits: Waits | None = None
    """How the phases waited for each other; None where they take turns."""

    @property
    def wall_seconds(self) -> float:
        """Wall time of the step: the sum of its phases, or what training waited and worked where others work beside it."""
        if self.waits is None:
            return sum(self.seconds.values())
        return self.waits.rollout_seconds + self.waits.teacher_seconds + self.seconds["update"]


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
    ahead: Ahead | None = None
    """How far writing may run ahead of training; None has them take turns."""
    gates: Gates = field(default_factory=Gates)
    """Closed by whoever needs models, teachers and verifier for himself."""


def train(
    parts: Parts,
    *,
    start: int,
    num_steps: int,
    waiting: Sequence[Written] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Sample, judge, score, step; once per optimiser step.

    Args:
        parts: The run.
        start: Steps already taken.
        num_steps: Steps in all.
        waiting: Responses that were written for the first of the remaining steps, from `restore`.
        should_stop: Asked between steps; True saves and ends the run.

    Returns:
        The last checkpoint.

    Raises:
        Interrupted: The run was asked to stop; its state is saved.
        TutelageError: Somebody failed in a step, or a loss or gradient is not finite; the state before that step is saved.
    """
    if start == 0:
        parts.evaluate(0)
    saved = None
    with _lessons(parts, start=start, num_steps=num_steps, waiting=waiting) as lessons:
        for step in range(start, num_steps):
            if should_stop():
                path = save(parts, step=step, waiting=lessons.waiting()).path
                raise Interrupted(f"Stopped after {step} of {num_steps} steps as asked; the state is in {path.name}.")
            try:
                record = _step(parts, lessons, step)
            except TutelageError:
                save(parts, step=step, waiting=lessons.waiting())
                raise
            parts.recorder.record(_observed(parts, record))
            parts.evaluate(step + 1)
            due = _due(parts.checkpointing, step + 1, num_steps)
            saved = save(parts, step=step + 1, waiting=lessons.waiting()) if due else None
    return saved or save(parts, step=num_steps)


def _lessons(parts: Parts, *, start: int, num_steps: int, waiting: Sequence[Written]) -> AbstractContextManager[Lessons]:
    stages = Stages(
        prompts=parts.prompts,
        writer=parts.writer,
        verifier=parts.verifier,
        teaching=parts.teaching,
        device=parts.student.device,
        seed=parts.seed,
    )
    if parts.ahead is None:
        return nullcontext(InTurn(stages))
    return Pipeline(
        parts.ahead,
        write=stages.write,
        teach=stages.teach,
        weights=partial(snapshot, parts.student),
        gates=parts.gates,
        start=start,
        num_steps=num_steps,
    ).running(waiting)


def _step(parts: Parts, lessons: Lessons, step: int) -> StepRecord:
    lesson, watch = lessons.take(step), Watch()
    taught = lesson.taught
    update = parts.learner.update(taught.batch, taught.signals, step=step, statistics=parts.recorder.wants_statistics(step + 1))
    parts.teaching.update(parts.student)
    watch.lap("update")
    lessons.moved()
    return StepRecord(
        step=step + 1,
        rollouts=lesson.rollouts,
        verdicts=lesson.verdicts,
        taught=taught,
        update=update,
        seconds={**lesson.seconds, **watch.seconds},
        waits=lesson.waits,
    )


def _observed(parts: Parts, record: StepRecord) -> StepRecord:
    """The record with what the controllers saw and did after the step."""
    if not parts.controllers:
        return record
    watch, controls = Watch(), dict[str, float]()
    for controller in parts.controllers.values():
        controls |= controller.observe(record.step)
    watch.lap("control")
    return replace(record, controls=controls, seconds=record.seconds | watch.seconds)


def save(parts: Parts, *, step: int, waiting: Sequence[Written] = ()) -> Checkpoint:
    """Write a checkpoint of everything that the run needs to continue to the same bits.

    Args:
        parts: The run.
        step: Steps taken.
        waiting: What was written for later steps.
    """
    _LOG.info("Saving the state after %d steps.", step)
    with parts.gates.closed():
        return checkpoint.save(
            parts.checkpoints,
            step=step,
            state=_state(parts) | {"queue": as_values(waiting)},
            save_student=parts.student.save,
            keep=parts.checkpointing.keep,
        )


def restore(parts: Parts, state: State) -> list[Written]:
    """Put every part back to where a checkpoint was written.

    Returns:
        What was written for later steps.

    Raises:
        CheckpointError: The state belongs to another run.
    """
    parts.student.load_trainable(state["student"])
    parts.learner.optimiser.load_state_dict(state["optimiser"])
    parts.writer.load_state_dict(state["writer"])
    parts.teaching.load_state_dict(state["teachers"])
    for name, controller in parts.controllers.items():
        controller.load_state_dict(state["controllers"][name])
    return from_values(state.get("queue", ()), prompts=parts.prompts)


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
