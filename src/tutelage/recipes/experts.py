"""Methods with several teachers, each for its own domain."""

from collections.abc import Mapping

from tutelage.credit import GroupRelative
from tutelage.objectives import Band, LogRatio, ScoreFunction, Term
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.parts import ModelTeacher, RoutedTeacher


def mopd(
    experts: Mapping[str, str] | None = None,
    *,
    default: str | None = None,
    outcome: float = 0.0,
    gate_low: float = 0.5,
    gate_high: float = 5.0,
    n: int = 1,
    max_new_tokens: int = 256,
) -> Recipe:
    """Multi-teacher OPD: every prompt is taught by the expert of its domain, which its `teacher_id` names.

    Reference: arXiv:2601.02780 and 2606.30406; the form is that of NVIDIA-NeMo/RL.
    """
    models = {name: ModelTeacher(model=folder) for name, folder in (experts or {"expert": ""}).items()}
    gate = Band(low=gate_low, high=gate_high)
    terms = [Term(name="policy_gradient", signal=ScoreFunction(advantage=LogRatio(relative_to="student"), ratio=gate))]
    if outcome != 0.0:
        terms.append(Term(name="outcome", signal=ScoreFunction(advantage=GroupRelative(), ratio=gate), scale=outcome))
    return Recipe(
        name="mopd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=RoutedTeacher(experts=models, default=default),
        terms=tuple(terms),
    )


MOPD = Card(
    title="Multi-teacher on-policy distillation",
    paper="2601.02780",
    equation="-E_mu mean_t w_t sg[log pi_T(x)(y_t) - log pi_S(y_t) + alpha A] log pi_S(y_t),  w_t = pi_S / mu in the gate",
    summary=(
        "Experts in different domains teach one student: each prompt names its expert, whose log-ratio is the advantage of "
        "every token. Tokens on which trainer and sampler disagree too much count for nothing."
    ),
    knobs=(
        Knob(name="experts", default="None", meaning="model folder of each expert, by the name that `teacher_id` uses"),
        Knob(name="default", default="None", meaning="expert of prompts that name none; without it they are refused"),
        Knob(name="outcome", default="0.0", meaning="weight of a group-relative reward (alpha); needs n > 1"),
        Knob(name="gate_low", default="0.5", meaning="smallest ratio of student to sampler that counts"),
        Knob(name="gate_high", default="5.0", meaning="largest one"),
        Knob(name="n", default="1", meaning="responses per prompt"),
        Knob(name="max_new_tokens", default="256", meaning="longest response in tokens"),
    ),
    settings="MiMo-V2-Flash; NeMo also drops responses whose log-probability is off by a factor of 2 as a whole",
    exact_check="one expert, fresh samples and no outcome: the mean gradient is OPD's; outside the gate a token gives nothing",
    differs="the gate's bounds and alpha are not stated in what we read; the two parts of the advantage are two terms",
)

METHODS = ((mopd, MOPD),)
"""The functions of this family with their cards."""
