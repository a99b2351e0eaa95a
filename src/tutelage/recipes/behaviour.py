"""Methods that decide anew who writes: between student and teacher, or the best of several teachers' responses."""

from typing import Literal

from tutelage.objectives import ForwardKL, ReverseKL, Term, TopK
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import BestTeacherRollouts, BlendedRollouts, Sampling, StudentRollouts
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


def brts(
    teacher: str = "",
    *,
    teacher_n: int = 2,
    teacher_temperature: float = 0.7,
    teacher_top_p: float = 0.95,
    hints: int = 1,
    hint_column: str = "solution",
    without_right: Literal["closest", "skip"] = "closest",
    overlap_k: int = 16,
    k: int = 16,
    auxiliary: float = 0.05,
    n: int = 2,
    max_new_tokens: int = 256,
) -> Recipe:
    """Best-of-N teacher rollouts: beside the student's responses, the teacher's best one is imitated.

    Reference: BRTS, arXiv:2605.09725, and its released code.
    """
    own = Sampling(n=n, max_new_tokens=max_new_tokens)
    best = BestTeacherRollouts(
        sampling=own,
        teacher_n=teacher_n,
        teacher_temperature=teacher_temperature,
        teacher_top_p=teacher_top_p,
        overlap_k=overlap_k,
        hints=hints,
        hint_column=hint_column,
        otherwise=without_right,
    )
    terms = [Term(name="student", signal=ReverseKL(support=TopK(k=k, chosen_by="student")))]
    if auxiliary != 0.0:
        imitated = ForwardKL(support=TopK(k=k, chosen_by="teacher"))
        terms.append(Term(name="teacher", signal=imitated, on=("teacher",), scale=auxiliary))
    return Recipe(
        name="brts",
        rollouts=best if auxiliary != 0.0 else StudentRollouts(sampling=own),
        teacher=ModelTeacher(model=teacher),
        terms=tuple(terms),
    )


BRTS = Card(
    title="BRTS: best-of-N teacher rollouts",
    paper="2605.09725",
    equation=(
        "mean_{t, y ~ pi_S} KL_{K_S}(pi_S || pi_T)(s_t) + lambda mean_{t, y*} KL_{K_T}(pi_T || pi_S)(s_t),  "
        "y* the best of N by pi_T"
    ),
    summary=(
        "Where the student never solves a prompt its own responses teach it little. The teacher writes some, once; the one "
        "that is right and overlaps most with the student is imitated beside them. None right: the teacher reads a hint."
    ),
    knobs=(
        Knob(name="teacher_n", default="2", meaning="responses by the teacher to choose among (N)"),
        Knob(name="teacher_temperature", default="0.7", meaning="of the teacher's sampling"),
        Knob(name="teacher_top_p", default="0.95", meaning="of the teacher's sampling"),
        Knob(name="hints", default="1", meaning="responses that it writes with a hint where none is right; 0 gives no hint"),
        Knob(name="hint_column", default="'solution'", meaning="column of the data set that the hint is taken from"),
        Knob(name="without_right", default="'closest'", meaning="what is imitated where still none is right: closest or skip"),
        Knob(name="overlap_k", default="16", meaning="student's likeliest entries that count as overlap"),
        Knob(name="k", default="16", meaning="entries in either divergence; the others are one event"),
        Knob(name="auxiliary", default="0.05", meaning="lambda: weight of the imitation; 0 leaves the student's responses"),
        Knob(name="n", default="2", meaning="responses by the student"),
        _LENGTH,
    ),
    settings="R1-Distill 1.5B taught by JustRL 1.5B on mathematics; the largest gains on hard prompts",
    exact_check="auxiliary 0: the top-K reverse KL on the student's responses; right before near, hint before wrong; N = 1",
    differs=(
        "the teacher writes once for the whole run, and only the choice follows the student; what lies outside of the top K is "
        "one event; the weight is 0.05 as in the code, while another public note has 10"
    ),
)

METHODS = ((trb, TRB), (brts, BRTS))
"""The functions of this family with their cards."""
