"""The writer of a run: whose samplers it gets, and what else its source uses."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from tutelage.errors import ConfigError, DataError
from tutelage.models import LanguageModel
from tutelage.rollouts import Aids, CachedSampler, LockstepSampler, Prompt, RolloutWriter, Sampler, Text
from tutelage.rollouts.overlap import TopOverlap
from tutelage.rollouts.sampler_parts import InProcess
from tutelage.rollouts.served import ServedSampler
from tutelage.rollouts.served_copy import ServedCopy
from tutelage.rollouts.sources import AnyRollouts, BestTeacherRollouts, EnvironmentRollouts, Sampling, StudentRollouts
from tutelage.rollouts.synced import SyncedSampler
from tutelage.run.config import RunConfig
from tutelage.run.preflight import PreflightReport
from tutelage.run.recipe_checks import sampling_of
from tutelage.teachers import Cached, Scorer, Teacher
from tutelage.teachers.parts import ReferenceSolution
from tutelage.teachers.served import Served
from tutelage.training.learner import Learner
from tutelage.training.processes import several


def build_writer(
    config: RunConfig,
    report: PreflightReport,
    learner: Learner,
    *,
    teacher: Scorer | None,
    sampler: Sampler,
    text: Text,
    aids: Aids,
) -> RolloutWriter:
    """What carries the recipe's source out.

    Args:
        config: With the recipe and the seed.
        report: What student and teacher share.
        learner: With the student that is trained, and its precision.
        teacher: The recipe's own.
        sampler: Of the student.
        text: Between ids and text.
        aids: What only some sources use, apart from models; those are added here.
    """
    recipe = config.recipe
    teacher = teacher.direct if isinstance(teacher, Cached) else teacher
    if not isinstance(teacher, Teacher | Served) or not (recipe.teacher_writes or recipe.teacher_reads_along):
        return RolloutWriter(recipe.rollouts, student=sampler, text=text, seed=config.seed, aids=aids)
    return RolloutWriter(
        recipe.rollouts,
        student=sampler,
        text=text,
        seed=config.seed,
        teacher=_teacher_sampler(teacher, report),
        teacher_reads=partial(_read_by, teacher),
        aids=replace(
            aids,
            together=LockstepSampler(
                learner.student,
                teacher.model,
                vocab=report.vocab,
                stop_token_ids=report.stop_token_ids,
                autocast=sampling_precision(learner),
            )
            if recipe.teacher_reads_along and isinstance(teacher, Teacher)
            else None,
            overlap=TopOverlap(learner.student, vocab=report.vocab, microbatch_tokens=config.training.microbatch_tokens),
            hint=_hint(recipe.rollouts, teacher),
        ),
    )


def write_alone(
    source: AnyRollouts, sampling: Sampling, *, sampler: Sampler, text: Text, seed: int, aids: Aids
) -> RolloutWriter:
    """What writes where only the student is looked at: it alone, or with its environment where the recipe has one."""
    alone = (
        replace(source, sampling=sampling) if isinstance(source, EnvironmentRollouts) else StudentRollouts(sampling=sampling)
    )
    return RolloutWriter(alone, student=sampler, text=text, seed=seed, aids=aids)


def student_samplers(
    config: RunConfig, report: PreflightReport, learner: Learner
) -> Callable[[LanguageModel], CachedSampler | SyncedSampler]:
    """From the student, or a copy of it, to what samples from it as it is: here, or on the one server of all of them.

    Raises:
        ConfigError: Several processes train, and each would give the one server its weights.
        ServerError: The server is not fit for it.
    """
    if isinstance(config.sampler, InProcess):
        return partial(
            CachedSampler,
            vocab=report.vocab,
            stop_token_ids=report.stop_token_ids,
            autocast=sampling_precision(learner),
        )
    if several():
        raise ConfigError(
            "A served student takes its weights from one process, and several train. Start one process, or sample in process: "
            "--sampler.kind in_process."
        )
    copy = ServedCopy(config.sampler, learner.student, vocab=report.vocab, stop_token_ids=report.stop_token_ids)
    if (sampling := sampling_of(config.recipe.rollouts)) is not None:
        copy.require(sampling)
    return partial(SyncedSampler, copy)


def _teacher_sampler(teacher: Teacher | Served, report: PreflightReport) -> Sampler:
    """Draws from a teacher that writes, wherever its weights lie."""
    if isinstance(teacher, Teacher):
        return CachedSampler(teacher.model, vocab=report.vocab, stop_token_ids=report.stop_token_ids)
    rows = teacher.model.vocab_size
    return ServedSampler(teacher.client, vocab=report.vocab, rows=rows, stop_token_ids=report.stop_token_ids)


def sampling_precision(learner: Learner) -> torch.dtype | None:
    """Reduced precision of the student's forward while it writes; none on a CPU.

    One token at a time a CPU would turn the weights to the reduced type again and again, which takes longer than the products.
    """
    return learner.precision if learner.student.device.type == "cuda" else None


def _hint(source: AnyRollouts, teacher: Scorer) -> Callable[[Prompt], list[int] | None]:
    """What the teacher reads where a source may give it a hint."""
    if not isinstance(source, BestTeacherRollouts):
        return lambda prompt: None
    context = ReferenceSolution(column=source.hint_column)

    def read(prompt: Prompt) -> list[int] | None:
        found = teacher.reading.prompt(prompt.example, read_by_student=prompt.token_ids, context=context)
        return None if found.token_ids is None else found.token_ids.tolist()

    return read


def _read_by(teacher: Scorer, prompt: Prompt) -> list[int]:
    read = teacher.reading.prompt(prompt.example, read_by_student=prompt.token_ids)
    if read.token_ids is None:
        raise DataError(
            f"The teacher cannot write to example {prompt.example.id!r} ({read.reason}), but the recipe lets it write. Fill "
            "the column that its context shows, or drop the row."
        )
    return read.token_ids.tolist()
