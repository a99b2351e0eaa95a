"""Methods that decide anew who writes: between student and teacher, or the best of several teachers' responses."""

from tutelage.objectives import ReverseKL, Term, TopK
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import BlendedRollouts, Sampling
from tutelage.teachers.parts import ModelTeacher
from tutelage.types.schedules import Linear

_LENGTH = Knob(name="max_new_tokens", default="256", meaning="longest response in tokens")


def trb(
    teacher: str = "",
    *,
    radius: float = 0.1,
    warmup_steps: int = 100,
    k: int = 100,
    n: int = 1,
    max_new_tokens: int = 256,
) -> Recipe:
    """Trust-region behaviour blending: early on, tokens are drawn as close to the teacher as a shrinking ball allows.

    Reference: arXiv:2605.31159.
    """
    return Recipe(
        name="trb",
        rollouts=BlendedRollouts(
            sampling=Sampling(n=n, max_new_tokens=max_new_tokens),
            radius=Linear(start=radius, end=0.0, steps=warmup_steps),
        ),
        teacher=ModelTeacher(model=teacher),
        terms=(Term(name="divergence", signal=ReverseKL(support=TopK(k=k, chosen_by="student"))),),
    )


TRB = Card(
    title="Trust-region behaviour blending",
    paper="2605.31159",
    equation=(
        "mean_t KL_{K}(pi_S || pi_T)(s_t),  y_t ~ pi_S^(1-b) pi_T^b / Z,  b the largest with KL(mu || pi_S) <= eps_k,  "
        "eps_k = eps_0 max(1 - k / K_warm, 0)"
    ),
    summary=(
        "Student and teacher read along with the response, and every token is drawn from the distribution closest to the "
        "teacher in a ball around the student. The ball shrinks to nothing over a warm-up; the loss is the reverse KL of each "
        "prefix, without any correction for who wrote it."
    ),
    knobs=(
        Knob(name="radius", default="0.1", meaning="of the ball at the first step, in nats (eps_0)"),
        Knob(name="warmup_steps", default="100", meaning="steps until the student writes alone (K_warm)"),
        Knob(name="k", default="100", meaning="student's likeliest entries in the reverse KL; the others are one event"),
        Knob(name="n", default="1", meaning="responses per prompt"),
        _LENGTH,
    ),
    settings="Qwen3 8B to 1.7B and 4B to 0.6B on mathematics; a warm-up that ends is better than a blend that stays",
    exact_check="KL(mu || pi_S) rises with b; radius 0: the student; KL(pi_T || pi_S): the teacher; optimal in the ball",
    differs="reconstructed: eps_0, K_warm and k are not in the sources that we read, so they are knobs",
)

METHODS = ((trb, TRB),)
"""The functions of this family with their cards."""
