"""Methods whose teacher is the student itself under a privileged context."""

from tutelage.objectives import ForwardKL, SequenceMean, Temperatures, Term
from tutelage.objectives.signals import AnySignal
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.white_box import generalised_divergence
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.parts import Average, Frozen, ReferenceSolution, SelfTeacher


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

METHODS = ((opsd, OPSD),)
"""The functions of this family with their cards."""
