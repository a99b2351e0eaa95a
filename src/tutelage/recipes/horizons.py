"""Methods that write only the part of a response where the teacher can still be trusted."""

from tutelage.objectives import ReverseKL, Term
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.parts import ModelTeacher

_LENGTH = Knob(name="max_new_tokens", default="256", meaning="longest response in tokens")


def esr(teacher: str = "", *, horizon: int = 100, n: int = 1, max_new_tokens: int = 256) -> Recipe:
    """Early stopping rollouts: only the first tokens of a response are written, and the exact reverse KL acts on them.

    Reference: arXiv:2605.27028.
    """
    return Recipe(
        name="esr",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens), horizon=float(horizon)),
        teacher=ModelTeacher(model=teacher),
        terms=(Term(name="divergence", signal=ReverseKL()),),
    )


ESR = Card(
    title="Early stopping rollout",
    paper="2605.27028",
    equation="mean_{t <= N} KL(pi_S || pi_T)(s_t),  y_{<= N} ~ pi_S",
    summary=(
        "The student writes no more than the first N tokens of each response and learns the exact reverse KL there. The "
        "teacher decays on long prefixes that it would not have written, and what is not written costs nothing."
    ),
    knobs=(
        Knob(name="horizon", default="100", meaning="tokens written in training (N); evaluations write whole responses"),
        Knob(name="n", default="1", meaning="responses per prompt"),
        _LENGTH,
    ),
    settings="N = 100 throughout; about 24 times cheaper than whole responses",
    exact_check="a horizon beyond the longest response changes nothing; tokens beyond it do not enter; shorter responses stay",
    differs="the sources that we read do not give the number of responses per prompt: `n` is a knob",
)

METHODS = ((esr, ESR),)
"""The functions of this family with their cards."""
