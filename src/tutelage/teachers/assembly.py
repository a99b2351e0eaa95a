"""From a teacher as a value to one that scores."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch

from tutelage.models.chat import Wrap, render
from tutelage.models.language_model import LanguageModel
from tutelage.teachers.experts import Experts
from tutelage.teachers.in_process import Teacher
from tutelage.teachers.parts import AnyTeacher, ModelTeacher, NoContext, RoutedTeacher, SelfTeacher, ServedTeacher
from tutelage.teachers.scorer import Scorer
from tutelage.teachers.served import Served, connect
from tutelage.teachers.weights import FixedWeights, TeacherWeights, own_weights


def build(
    part: AnyTeacher,
    *,
    student: LanguageModel,
    load: Callable[[ModelTeacher | ServedTeacher], LanguageModel],
    vocab: int,
    microbatch_tokens: int,
    wrap: Wrap = "auto",
    autocast: torch.dtype | None = None,
) -> Scorer:
    """The teacher of a recipe.

    A self teacher is made from the student as it is now: call this before the first optimiser step, and before a checkpoint
    is loaded into the student.

    Args:
        part: The choice.
        student: The student, for self teachers.
        load: Loads another model; of a served one its tokenizer and shape.
        vocab: Ids that both sides share.
        microbatch_tokens: Bound on padded tokens in one forward.
        wrap: When a plain-text prompt becomes a user turn.
        autocast: Arithmetic of the student's forward, which a self teacher shares; another model computes in its own type.
    """
    options = template_options(part, student.template_options)
    match part:
        case RoutedTeacher(experts=experts):
            fit = partial(build, student=student, load=load, vocab=vocab, microbatch_tokens=microbatch_tokens, wrap=wrap)
            return Experts(part, {name: cast(Teacher | Served, fit(expert)) for name, expert in experts.items()})
        case ServedTeacher():
            reader = load(part)
            reads = partial(render, reader.tokenizer, options=options, wrap=wrap)
            return Served(part, connect(part), reader=reader, render=reads, vocab=vocab)
        case ModelTeacher():
            weights: TeacherWeights = FixedWeights(load(part))
            autocast, reads_alike = None, False
        case SelfTeacher():
            weights = own_weights(part, student)
            reads_alike = isinstance(part.context, NoContext) and options == dict(student.template_options)
    return Teacher(
        weights,
        context=part.context,
        render=None if reads_alike else partial(render, weights.model.tokenizer, options=options, wrap=wrap),
        vocab=vocab,
        microbatch_tokens=microbatch_tokens,
        autocast=autocast,
    )


def template_options(part: AnyTeacher | None, student_options: Mapping[str, Any]) -> dict[str, Any]:
    """Chat-template options on the teacher's side: the student's, unless the teacher sets its own."""
    return {**student_options, **(part.template_options if part is not None else {})}
