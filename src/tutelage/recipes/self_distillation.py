"""Methods whose teacher is the student itself under a privileged context."""

from typing import Literal

from tutelage.objectives import ForwardKL, ProductOfTeachers, SequenceMean, Temperatures, Term, TopK
from tutelage.objectives.signals import AnySignal
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.white_box import generalised_divergence
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.context_parts import AttemptFeedback, FirstAvailable, PeerSolution, ReferenceSolution
from tutelage.teachers.parts import Average, Frozen, Live, SelfTeacher
from tutelage.weighting import ImportanceWeight


def opsd(
    *,
    beta: float = 0.0,
    entry_cap: float | None = 0.05,
    average_rate: float | None = None,
    temperature: float = 1.1,
    top_p: float = 0.95,
    top_k: int = 20,
    n: int = 1,
    max_new_tokens: int = 1024,
) -> Recipe:
    """On-policy self-distillation: the student that has read the reference solution teaches the one that has not.

    Reference: arXiv:2601.18734 and its code since 2026-03, which caps each vocabulary entry of the forward KL.
    """
    signal: AnySignal = ForwardKL(entry_cap=entry_cap) if beta == 0.0 else generalised_divergence(beta)
    return Recipe(
        name="opsd",
        rollouts=StudentRollouts(
            sampling=Sampling(n=n, temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=max_new_tokens)
        ),
        teacher=SelfTeacher(
            update=Frozen() if average_rate is None else Average(rate=average_rate), context=ReferenceSolution()
        ),
        terms=(Term(name="divergence", signal=signal, reduction=SequenceMean()),),
        temperatures=Temperatures(student=temperature, teacher=temperature),
    )


OPSD = Card(
    title="Self-distilled reasoner: on-policy self-distillation",
    paper="2601.18734",
    equation="mean_y mean_t sum_v min(pi_T log(pi_T / pi_S), cap)(v | s_t),  pi_T = pi_0(. | x, solution, y_<t)",
    summary=(
        "The student writes without help. The teacher is the same model as it was before training, reading the reference "
        "solution as well; it scores the student's tokens, and nothing flows into it."
    ),
    knobs=(
        Knob(
            name="beta", default="0.0", meaning="0 the capped forward KL; 0.5 the first release's Jensen-Shannon; 1 reverse KL"
        ),
        Knob(
            name="entry_cap",
            default="0.05",
            meaning="bound in nats on each entry's term of the forward KL (beta 0 only); None for no bound",
        ),
        Knob(
            name="average_rate",
            default="None",
            meaning="None: frozen teacher; else the rate of a moving average (0.001 in the paper)",
        ),
        Knob(name="temperature", default="1.1", meaning="of the sampling and of both softmaxes in the loss"),
        Knob(name="top_p", default="0.95", meaning="of the sampling"),
        Knob(name="top_k", default="20", meaning="of the sampling"),
        Knob(name="n", default="1", meaning="responses per prompt"),
        Knob(name="max_new_tokens", default="1024", meaning="longest response in tokens (2,048 for the 1.7B model)"),
    ),
    settings="learning rate 5e-6 (2e-4 at first), LoRA rank 64 alpha 128, batch 32",
    exact_check="without a context and with live weights loss and gradient are zero; cap None is the forward KL",
    differs="the wording of the teacher's prompt is ours; the capped sum can be negative, so it is no divergence",
)


def sdpo(
    *,
    k: int = 100,
    beta: float = 0.5,
    teacher_update: Literal["average", "live", "trust_region"] = "average",
    average_rate: float = 0.05,
    student_share: float = 0.5,
    importance_cap: float = 2.0,
    n: int = 8,
    max_new_tokens: int = 1024,
) -> Recipe:
    """Self-distillation policy optimisation: the student that has seen a right peer or feedback teaches the one that has not.

    Reference: arXiv:2601.20802 and its code. Differs: the share of the trust-region teacher is not stated in what we read.
    """
    context = FirstAvailable(contexts=(PeerSolution(), AttemptFeedback()))
    blended = teacher_update == "trust_region"
    update = {"average": Average(rate=average_rate), "live": Live(), "trust_region": Frozen()}[teacher_update]
    shares = (1.0 - student_share, student_share)
    return Recipe(
        name="sdpo",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=SelfTeacher(update=update, context=context),
        references={"current": SelfTeacher(update=Live(), context=context)} if blended else {},
        compositions={"blend": ProductOfTeachers(parts=("teacher", "current"), weights=shares)} if blended else {},
        terms=(
            Term(
                name="divergence",
                signal=generalised_divergence(beta, support=TopK(k=k, chosen_by="student", rest="tail")),
                weights=(ImportanceWeight(cap=importance_cap),),
                teacher="blend" if blended else "teacher",
            ),
        ),
    )


SDPO = Card(
    title="Reinforcement learning via self-distillation",
    paper="2601.20802",
    equation="sum_{y with c} sum_t min(pi_S / mu, 2) JSD_beta(pi_T(. | x, c, y_<t), pi_S(. | s_t)) / tokens of such y",
    summary=(
        "The student writes a group of responses. For each one the teacher, a moving average of the student, reads a right "
        "response of the same group, or else what the verifier said of this one, and scores it again. Responses without "
        "either teach nothing and are not counted."
    ),
    knobs=(
        Knob(name="k", default="100", meaning="student's likeliest entries, the others in one bucket; 20 with rich feedback"),
        Knob(name="beta", default="0.5", meaning="teacher's share of the mixture; 0 forward KL, 1 reverse KL"),
        Knob(
            name="teacher_update",
            default="'average'",
            meaning="average of the student; live; or trust_region: the first student and the live one, their logits blended",
        ),
        Knob(name="average_rate", default="0.05", meaning="rate of the moving average (0.01 with rich feedback)"),
        Knob(name="student_share", default="0.5", meaning="the live student's share of the trust-region teacher, in [0, 1]"),
        Knob(name="importance_cap", default="2.0", meaning="largest ratio of student to sampler at a token"),
        Knob(name="n", default="8", meaning="responses per prompt"),
        Knob(name="max_new_tokens", default="1024", meaning="longest response in tokens"),
    ),
    settings="learning rate 1e-5, 32 prompts x 8, a reprompt of up to 10,240 tokens",
    exact_check="without peers and feedback loss and gradient are zero; k = V is the full divergence; no peer is itself",
    differs="student_share is not stated in what we read; the wording of the teacher's prompt is ours",
)

METHODS = ((opsd, OPSD), (sdpo, SDPO))
"""The functions of this family with their cards."""
