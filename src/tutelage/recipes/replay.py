"""Methods that train on responses which an earlier student wrote."""

from tutelage.objectives import LogRatio, NoRatio, ScoreFunction, Term
from tutelage.recipes.cards import LENGTH, Card, Knob, responses
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import ReplayRollouts, Sampling
from tutelage.teachers.parts import ModelTeacher


def lightning(teacher: str = "", *, ahead: bool = True, n: int = 1, max_new_tokens: int = 256) -> Recipe:
    """Offline on-policy distillation: responses are written and scored once, and the current student is compared with that.

    Reference: Lightning OPD, arXiv:2604.13010, and its released code.
    """
    return Recipe(
        name="lightning",
        rollouts=ReplayRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens), ahead=ahead),
        teacher=ModelTeacher(model=teacher, remember=True),
        terms=(
            Term(
                name="policy_gradient",
                signal=ScoreFunction(advantage=LogRatio(relative_to="student"), ratio=NoRatio()),
            ),
        ),
    )


LIGHTNING = Card(
    title="Lightning OPD: offline on-policy distillation",
    paper="2604.13010",
    equation="-mean_t sg[log pi_T(y_t) - log pi_S(y_t)] log pi_S(y_t),  y ~ pi_R once,  log pi_T stored",
    summary=(
        "The student writes to all prompts before the first step, and the teacher scores each response once. From then on no "
        "teacher runs: the stored scores are compared with what the current student says, without any ratio to its former self."
    ),
    knobs=(
        Knob(name="ahead", default="True", meaning="write to all prompts before the first step; else when each first comes up"),
        responses(1),
        LENGTH,
    ),
    settings="the student is first trained on text of the same teacher (seq_kd or sft); few steps, so that it stays near pi_R",
    exact_check="on what was just written: the gradient of opd; equal models: zero; stored and fresh scores agree",
    differs=(
        "a response is scored when it is first trained on and not before the run, which for a teacher that does not move is "
        "the same; the number of responses per prompt is not in the sources that we read and is a knob"
    ),
)

METHODS = ((lightning, LIGHTNING),)
"""The functions of this family with their cards."""
