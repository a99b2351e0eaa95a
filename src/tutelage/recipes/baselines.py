"""What every comparison needs."""

from typing import Literal

from tutelage.objectives import CrossEntropy, Term
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import DatasetRollouts, ResponseColumn, Sampling, TeacherRollouts
from tutelage.teachers.parts import ModelTeacher


def sft(
    teacher: str = "",
    *,
    source: Literal["dataset", "teacher"] = "dataset",
    column: ResponseColumn = "response",
    n: int = 1,
    max_new_tokens: int = 256,
) -> Recipe:
    """Supervised training on given responses, or on responses that the teacher wrote once for the whole run.

    Reference: maximum likelihood; with `source="teacher"` sequence-level distillation, Kim and Rush 2016, arXiv:1606.07947,
    with sampled instead of beam-searched responses.
    """
    sampling = Sampling(n=n, max_new_tokens=max_new_tokens)
    return Recipe(
        name="sft",
        rollouts=(
            TeacherRollouts(sampling=sampling)
            if source == "teacher"
            else DatasetRollouts(column=column, max_tokens=max_new_tokens)
        ),
        teacher=ModelTeacher(model=teacher) if teacher or source == "teacher" else None,
        terms=(Term(name="cross_entropy", signal=CrossEntropy(), on=("dataset", "teacher")),),
    )


SFT = Card(
    title="Supervised fine-tuning",
    paper="maximum likelihood; 1606.07947 with the teacher's responses",
    equation="-mean_t log pi_S(y_t | x, y_<t),  y from the data or from the teacher",
    summary="The student imitates given responses, or responses that the teacher wrote to the same prompts. It writes nothing.",
    knobs=(
        Knob(name="source", default="'dataset'", meaning="'dataset' takes a column, 'teacher' lets the teacher write once"),
        Knob(name="column", default="'response'", meaning="column of the data: response or solution"),
        Knob(name="n", default="1", meaning="responses per prompt where the teacher writes"),
        Knob(name="max_new_tokens", default="256", meaning="longest response in tokens; longer ones of the data are cut"),
    ),
    settings="as for any supervised training; a teacher that is given but not asked is used to measure divergences",
    exact_check="the gradient with respect to the logits is pi_S minus the one-hot token",
)

METHODS = ((sft, SFT),)
"""The functions of this family with their cards."""
