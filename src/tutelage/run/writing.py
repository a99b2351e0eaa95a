"""The writer of a run: whose samplers it gets, and what else its source uses."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from tutelage.errors import DataError
from tutelage.models import LanguageModel
from tutelage.rollouts import Aids, CachedSampler, LockstepSampler, Prompt, RolloutWriter, Sampler, Text
from tutelage.rollouts.overlap import TopOverlap
from tutelage.rollouts.sources import AnyRollouts, BestTeacherRollouts, EnvironmentRollouts, Sampling, StudentRollouts
from tutelage.run.config import RunConfig
from tutelage.run.preflight import PreflightReport
from tutelage.teachers import Cached, Scorer, Teacher
from tutelage.teachers.parts import ReferenceSolution
from tutelage.training.learner import Learner


def build_writer(
    config: RunConfig,
    report: PreflightReport,
    learner: Learner,
    *,
    teacher: Scorer | None,
    sampler: CachedSampler,
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
    if not isinstance(teacher, Teacher) or not (recipe.teacher_writes or recipe.teacher_reads_along):
        return RolloutWriter(recipe.rollouts, student=sampler, text=text, seed=config.seed, aids=aids)
    return RolloutWriter(
        recipe.rollouts,
        student=sampler,
        text=text,
        seed=config.seed,
        teacher=CachedSampler(teacher.model, vocab=report.vocab, stop_token_ids=report.stop_token_ids),
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
            if recipe.teacher_reads_along
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


def student_sampler(student: LanguageModel, report: PreflightReport, learner: Learner) -> CachedSampler:
    """Samples from the student as it is."""
    return CachedSampler(
        student, vocab=report.vocab, stop_token_ids=report.stop_token_ids, autocast=sampling_precision(learner)
    )


def sampling_precision(learner: Learner) -> torch.dtype | None:
    """Reduced precision of the student's forward while it writes; none on a CPU.

    One token at a time a CPU would turn the weights to the reduced type again and again, which takes longer than the products.
    """
    return learner.precision if learner.student.device.type == "cuda" else None


def _hint(source: AnyRollouts, teacher: Teacher) -> Callable[[Prompt], list[int] | None]:
    """What the teacher reads where a source may give it a hint."""
    if not isinstance(source, BestTeacherRollouts):
        return lambda prompt: None
    context = ReferenceSolution(column=source.hint_column)

    def read(prompt: Prompt) -> list[int] | None:
        found = teacher.prompt(prompt.example, read_by_student=prompt.token_ids, context=context)
        return None if found.token_ids is None else found.token_ids.tolist()

    return read


def _read_by(teacher: Teacher, prompt: Prompt) -> list[int]:
    read = teacher.prompt(prompt.example, read_by_student=prompt.token_ids)
    if read.token_ids is None:
        raise DataError(
            f"The teacher cannot write to example {prompt.example.id!r} ({read.reason}), but the recipe lets it write. Fill "
            "the column that its context shows, or drop the row."
        )
    return read.token_ids.tolist()
