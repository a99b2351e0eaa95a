"""What people and commands call: train, resume, evaluate."""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tutelage.errors import CheckpointError, TutelageError
from tutelage.evaluation import EvaluationResult
from tutelage.run.assembly import Assembled, assemble, prompt_order
from tutelage.run.config import RunConfig
from tutelage.run.instruments import build_controllers
from tutelage.run.overrides import from_tree, to_tree
from tutelage.run.recording import RunRecorder
from tutelage.run.stopping import stop_on_signals
from tutelage.tracking import RunFolder, Tracker, open_sinks
from tutelage.tracking.environment import describe
from tutelage.tracking.progress import RunProgress
from tutelage.tracking.report import write_report
from tutelage.training import checkpoint, loop
from tutelage.training.checkpoint import Checkpoint
from tutelage.training.lessons import Gates
from tutelage.training.loop import Parts

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Result:
    """What a run left behind."""

    folder: Path
    student: Path
    """The distilled student in Hugging Face format."""
    report: Path
    evaluations: dict[int, EvaluationResult]
    """By optimiser steps taken; those of this process only."""
    notes: tuple[str, ...]
    """What the preflight mended or wants known."""


def train(config: RunConfig) -> Result:
    """Distil a student.

    Args:
        config: Everything that decides the run.

    Returns:
        Where the student, the metrics and the report lie.

    Raises:
        TutelageError: See the subclasses; before the first step wherever possible.
    """
    RunFolder.require_free(config.output)  # before models are loaded, which can take minutes
    assembled = assemble(config)
    folder = RunFolder.create(config.output, config=to_tree(config), environment=describe(seeds={"run": config.seed}))
    return _run(config, assembled, folder, resumed=None)


def resume(path: Path | str, *, num_steps: int | None = None) -> Result:
    """Continue a run from its newest whole checkpoint, to the same bits as if it had never stopped.

    Args:
        path: Folder of the run.
        num_steps: A new end; changes the decay of the learning rate with it.

    Raises:
        CheckpointError: The folder is no run, or it has no whole checkpoint.
    """
    folder = RunFolder.open_existing(path)
    config = replace(config_of(folder), output=str(path))
    if num_steps is not None:
        config = replace(config, training=replace(config.training, num_steps=num_steps))
    found = checkpoint.newest(folder.checkpoints)
    if found is None:
        raise CheckpointError(
            f"{str(path)!r} has no whole checkpoint to continue from. Start it again: tutelage train --from {str(path)!r} "
            "--output ANOTHER."
        )
    return _run(config, assemble(config), folder, resumed=found)


def config_of(folder: RunFolder) -> RunConfig:
    """The configuration that a run was started with.

    Raises:
        ConfigError: It was written by a version with other settings; the message names them.
    """
    return from_tree(folder.config())


def evaluate(config: RunConfig) -> EvaluationResult:
    """Evaluate a configuration's student on its held-out prompts, or on its data where none are held out."""
    source = config.evaluation_data or config.data
    evaluator = assemble(replace(config, data=source, evaluation_data=source)).evaluator
    assert evaluator is not None
    return evaluator(0)


def _run(config: RunConfig, assembled: Assembled, folder: RunFolder, *, resumed: Checkpoint | None) -> Result:
    start, num_steps = (resumed.step if resumed else 0), config.training.num_steps
    evaluations: dict[int, EvaluationResult] = {}
    sinks = open_sinks(config.logging.trackers, folder, config=to_tree(config), resumed_step=resumed and start)
    tracker = Tracker(folder, sinks=sinks, resumed_step=resumed and start)
    with RunProgress(num_steps, start=start, title=config.recipe.name) as progress, stop_on_signals() as should_stop:
        for note in assembled.report.notes:
            progress.say(f"note: {note}")
        recorder = RunRecorder(
            folder,
            tracker,
            progress,
            logging=config.logging,
            optimiser=config.optimiser,
            num_steps=num_steps,
            decode=assembled.student.tokenizer.decode,
            gauges=assembled.gauges,
        )
        parts = _parts(config, assembled, folder, recorder, evaluations)
        try:
            waiting = [] if resumed is None else loop.restore(parts, checkpoint.load(resumed))
            last = loop.train(parts, start=start, num_steps=num_steps, waiting=waiting, should_stop=should_stop)
        except TutelageError:
            with suppress(TutelageError):  # why the run ended matters more than its report
                write_report(folder.path)
            raise
        finally:
            tracker.close()
    return Result(
        folder=folder.path,
        student=last.student,
        report=write_report(folder.path),
        evaluations=evaluations,
        notes=assembled.report.notes,
    )


def _parts(
    config: RunConfig,
    assembled: Assembled,
    folder: RunFolder,
    recorder: RunRecorder,
    evaluations: dict[int, EvaluationResult],
) -> Parts:
    gates = Gates()

    def evaluate_if_due(step: int) -> None:
        evaluator = assembled.evaluator
        if evaluator is None or not evaluator.due(step, num_steps=config.training.num_steps):
            return
        with gates.closed():
            began = time.perf_counter()
            evaluations[step] = evaluator(step)
        recorder.record_evaluation(step, evaluations[step], seconds=time.perf_counter() - began)

    return Parts(
        student=assembled.student,
        prompts=prompt_order(config, assembled),
        writer=assembled.writer,
        verifier=assembled.verifier,
        teaching=assembled.teaching,
        learner=assembled.learner,
        controllers=build_controllers(config, assembled),
        recorder=recorder,
        evaluate=evaluate_if_due,
        checkpoints=folder.checkpoints,
        checkpointing=config.checkpoints,
        seed=config.seed,
        ahead=assembled.ahead,
        gates=gates,
    )
