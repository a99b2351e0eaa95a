"""Methods whose teacher is the student under several contexts at once."""

from tutelage.errors import ConfigError
from tutelage.objectives import ConsensusOfTeachers, LogRatio, NoRatio, ReverseKL, ScoreFunction, Term
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.context_parts import ReferenceSolution
from tutelage.teachers.parts import Average, Frozen, Live, SelfTeacher


def avsd(*, half: float = 0.5, temperature: float = 0.7, n: int = 1, max_new_tokens: int = 4096) -> Recipe:
    """Adaptive-view self-distillation: three views of the solution, and what they agree on.

    Reference: arXiv:2605.20643 and its code; the views are those of its mathematics runs.
    """
    views = {
        "teacher": ReferenceSolution(column="solution"),
        "half": ReferenceSolution(column="solution", share=half),
        "answer": ReferenceSolution(column="answer"),
    }
    teachers = {name: SelfTeacher(update=Frozen(), context=context) for name, context in views.items()}
    return Recipe(
        name="avsd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, temperature=temperature, max_new_tokens=max_new_tokens)),
        teacher=teachers.pop("teacher"),
        references=teachers,
        compositions={"consensus": ConsensusOfTeachers(parts=tuple(views))},
        terms=(
            Term(
                name="policy_gradient",
                signal=ScoreFunction(advantage=LogRatio(relative_to="student"), ratio=NoRatio()),
                teacher="consensus",
            ),
        ),
    )


AVSD = Card(
    title="Adaptive-view self-distillation",
    paper="2605.20643",
    equation="-mean_t sg[log q*(y_t) - log pi_S(y_t)] log pi_S(y_t),  log q* = G + gate J, G = mean log q, J = log mean q - G",
    summary=(
        "The student before training reads the whole solution, half of it, and the answer alone. Entry by entry the target "
        "lies between the geometric and the arithmetic mean of the three, nearer to the latter where they agree on whether "
        "the student should say it more or less often."
    ),
    knobs=(
        Knob(name="half", default="0.5", meaning="share of the solution that the second view shows, from its beginning"),
        Knob(name="temperature", default="0.7", meaning="of the sampling"),
        Knob(name="n", default="1", meaning="responses per prompt"),
        Knob(name="max_new_tokens", default="4096", meaning="longest response in tokens"),
    ),
    settings="learning rate 5e-6, LoRA rank 64 alpha 64, 500 steps",
    exact_check="equal views are one view; G <= log q* <= A before normalisation; no order of the views matters",
    differs=(
        "log q* is normalised, which shifts the advantages of a prefix by a constant and no mean gradient; of the gates of "
        "the code only the default, with equal weights of the views; tokens sampled at 0.7 are not corrected for, as there"
    ),
)


def selfci(
    *,
    allowed_column: str = "allowed",
    withheld_column: str = "withheld",
    allowed_weight: float = 1.0,
    withheld_weight: float = 1.0,
    average_rate: float | None = None,
    n: int = 1,
    max_new_tokens: int = 256,
) -> Recipe:
    """Complementary self-distillation: one teacher reads what may be said, the other what must be withheld.

    Reference: arXiv:2605.20258 and its code.
    """
    if min(allowed_weight, withheld_weight) < 0.0:
        raise ConfigError(f"selfci needs weights >= 0, got {allowed_weight!r} and {withheld_weight!r}.")
    total = max(allowed_weight + withheld_weight, 1.0)
    update = Live() if average_rate is None else Average(rate=average_rate)
    allowed, withheld = (
        SelfTeacher(update=update, context=ReferenceSolution(column=column)) for column in (allowed_column, withheld_column)
    )
    return Recipe(
        name="selfci",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=allowed,
        references={"withheld": withheld},
        terms=(
            Term(name="allowed", signal=ReverseKL(), scale=allowed_weight / total),
            Term(name="withheld", signal=ReverseKL(), scale=withheld_weight / total, teacher="withheld"),
        ),
    )


SELFCI = Card(
    title="It takes two: complementary self-distillation for contextual integrity",
    paper="2605.20258",
    equation="sum_b w_b KL(pi_S || T_b) / max(sum_b w_b, 1) = (w_a + w_d) [KL(pi_S || T_a^w T_d^(1-w) / Z) - log Z] / max(...)",
    summary=(
        "The student itself is asked twice: once it reads what the task may use, once what it must keep to itself. Matching "
        "both in reverse KL is matching their product: a token has to please either teacher."
    ),
    knobs=(
        Knob(name="allowed_column", default="'allowed'", meaning="column of the data with what may be said"),
        Knob(name="withheld_column", default="'withheld'", meaning="column of the data with what must be withheld"),
        Knob(name="allowed_weight", default="1.0", meaning="weight of the first teacher"),
        Knob(name="withheld_weight", default="1.0", meaning="weight of the second teacher"),
        Knob(name="average_rate", default="None", meaning="None: the live student; else the rate of a moving average (0.001)"),
        Knob(name="n", default="1", meaning="responses per prompt"),
        Knob(name="max_new_tokens", default="256", meaning="longest response in tokens"),
    ),
    settings="learning rate 1e-6, 30 epochs",
    exact_check="the two terms equal one reverse KL to the product of experts, less log Z; equal teachers are one teacher",
    differs=(
        "full vocabulary only; weights that follow the measured integrity and utility are left to the user; the released "
        "sampled form has no gradient on average and is not offered"
    ),
)

METHODS = ((avsd, AVSD), (selfci, SELFCI))
"""The functions of this family with their cards."""
