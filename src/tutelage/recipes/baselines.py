"""What every comparison needs."""

from typing import Literal

from tutelage.credit import GroupRelative
from tutelage.objectives import Clipped, CrossEntropy, SampledKL, ScoreFunction, SequenceMean, Term
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import (
    DatasetRollouts,
    ReplayRollouts,
    ResponseColumn,
    Sampling,
    StudentRollouts,
    TeacherRollouts,
)
from tutelage.teachers.parts import Frozen, ModelTeacher, NoContext, SelfTeacher
from tutelage.weighting import Outcome


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


def seq_kd(teacher: str = "", *, temperature: float = 0.0, n: int = 1, max_new_tokens: int = 256) -> Recipe:
    """Sequence-level distillation: the student imitates the responses that the teacher finds likeliest.

    Reference: Kim and Rush 2016, arXiv:1606.07947. Differs: the likeliest token at a time instead of beam search.
    """
    return Recipe(
        name="seq_kd",
        rollouts=TeacherRollouts(sampling=Sampling(n=n, temperature=temperature, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(Term(name="cross_entropy", signal=CrossEntropy(), on=("teacher",)),),
    )


SEQ_KD = Card(
    title="Sequence-level knowledge distillation",
    paper="1606.07947",
    equation="-mean_t log pi_S(y_t | x, y_<t),  y = argmax_y pi_T(y | x), token by token",
    summary="The teacher writes one response to each prompt, once for the whole run, and the student imitates it.",
    knobs=(
        Knob(name="temperature", default="0.0", meaning="of the teacher's sampling; 0 takes the likeliest token"),
        Knob(name="n", default="1", meaning="responses per prompt; more than one needs a temperature"),
        Knob(name="max_new_tokens", default="256", meaning="longest response in tokens"),
    ),
    settings="as for any supervised training",
    exact_check="the gradient with respect to the logits is pi_S minus the one-hot token; at temperature 1 it is sft's",
    differs="greedy instead of beam search",
)


def grpo(
    *,
    kl: float = 0.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    n: int = 8,
    max_new_tokens: int = 1024,
) -> Recipe:
    """Group relative policy optimisation: the verifier's reward alone, relative to the other responses to the prompt.

    Reference: DeepSeekMath, arXiv:2402.03300, equation 3. `kl` is its beta, which later practice sets to zero.
    """
    terms = [
        Term(
            name="reward",
            signal=ScoreFunction(advantage=GroupRelative(), ratio=Clipped(low=clip_low, high=clip_high)),
            reduction=SequenceMean(),
        )
    ]
    if kl != 0.0:
        terms.append(
            Term(name="anchor", signal=SampledKL(estimator="k3"), reduction=SequenceMean(), scale=kl, teacher="reference")
        )
    before = SelfTeacher(update=Frozen(), context=NoContext())
    return Recipe(
        name="grpo",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        references={"reference": before} if kl != 0.0 else {},
        terms=tuple(terms),
    )


GRPO = Card(
    title="Group relative policy optimisation",
    paper="2402.03300",
    equation="-mean_y mean_t min(rho_t A, clip(rho_t, 1 - low, 1 + high) A) + kl k3(pi_S, pi_0),  A = (R - mean R) / std R",
    summary="The student writes a group of responses to each prompt; each one's reward, relative to the group's, is the "
    "advantage of all its tokens. No teacher.",
    knobs=(
        Knob(name="kl", default="0.0", meaning="weight of the divergence from the student before training (0.04 in the paper)"),
        Knob(name="clip_low", default="0.2", meaning="how far below 1 the ratio of student to sampler may be pushed"),
        Knob(name="clip_high", default="0.2", meaning="how far above 1; 0.28 in DAPO"),
        Knob(name="n", default="8", meaning="responses per prompt (64 in the paper)"),
        Knob(name="max_new_tokens", default="1024", meaning="longest response in tokens"),
    ),
    settings="learning rate 1e-6, 1,024 tokens, batch 1,024",
    exact_check="equal rewards in a group give no gradient; without scale and with the others' mean it is unbiased (RLOO)",
)


def rft(*, n: int = 8, temperature: float = 1.0, ahead: bool = True, max_new_tokens: int = 256) -> Recipe:
    """Rejection-sampling fine-tuning: the student imitates those of its own first responses that the verifier accepts.

    Reference: arXiv:2308.01825.
    """
    return Recipe(
        name="rft",
        rollouts=ReplayRollouts(
            sampling=Sampling(n=n, temperature=temperature, max_new_tokens=max_new_tokens),
            ahead=ahead,
        ),
        terms=(Term(name="accepted", signal=CrossEntropy(), routes=(Outcome(correct=True),)),),
    )


RFT = Card(
    title="Rejection-sampling fine-tuning",
    paper="2308.01825",
    equation="-mean_{y right} mean_t log pi_S(y_t | x, y_<t),  y ~ pi_S before training, n per prompt",
    summary="The student writes to each prompt before the first step; what the verifier finds right is imitated. No teacher.",
    knobs=(
        Knob(name="n", default="8", meaning="responses per prompt"),
        Knob(name="temperature", default="1.0", meaning="of the sampling"),
        Knob(name="ahead", default="True", meaning="write to all prompts before the first step; else when each first comes up"),
        Knob(name="max_new_tokens", default="256", meaning="longest response in tokens"),
    ),
    settings="as for any supervised training, on the accepted responses",
    exact_check="all right: sft on the same responses; all wrong: nothing moves; wrong responses do not enter the mean",
    differs="equal responses to a prompt are all kept, so that a likely one counts for more; n is a knob",
)


METHODS = ((sft, SFT), (seq_kd, SEQ_KD), (rft, RFT), (grpo, GRPO))
"""The functions of this family with their cards."""
