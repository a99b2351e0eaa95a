"""Methods in which a verifier's reward and a teacher meet."""

from tutelage.credit import GroupRelative
from tutelage.objectives import Clipped, Reshaped, ReverseKL, ScoreFunction, Term, TopK
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.white_box import generalised_divergence
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.context_parts import AttemptFeedback, FirstAvailable, PeerSolution, ReferenceSolution
from tutelage.teachers.parts import Average, ModelTeacher, Periodic, SelfTeacher
from tutelage.types.schedules import Linear
from tutelage.weighting import ImportanceWeight, Otherwise, Outcome, Taught, TeacherCertainty

_N = Knob(name="n", default="8", meaning="responses per prompt")
_LENGTH = Knob(name="max_new_tokens", default="1024", meaning="longest response in tokens")
_LOW = Knob(name="clip_low", default="0.2", meaning="how far below 1 the ratio of student to sampler may be pushed")


def rlsd(
    *,
    strength: float = 0.5,
    strength_steps: int = 50,
    reshape_clip: float = 0.2,
    refresh_every: int = 10,
    column: str = "answer",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    n: int = 8,
    max_new_tokens: int = 1024,
) -> Recipe:
    """Self-distilled RLVR: the reward gives the sign of a token's advantage, the teacher with the answer its size.

    Reference: arXiv:2604.03128.
    """
    ratio = Clipped(low=clip_low, high=clip_high)
    ramp = Linear(start=strength, end=0.0, steps=strength_steps)
    return Recipe(
        name="rlsd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=SelfTeacher(update=Periodic(every=refresh_every), context=ReferenceSolution(column=column)),
        terms=(
            Term(
                name="reward",
                signal=ScoreFunction(advantage=GroupRelative(), ratio=ratio),
                scale=Linear(start=1.0 - strength, end=1.0, steps=strength_steps),
            ),
            Term(name="reshaped", signal=ScoreFunction(advantage=Reshaped(clip=reshape_clip), ratio=ratio), scale=ramp),
        ),
    )


RLSD = Card(
    title="Self-distilled RLVR",
    paper="2604.03128",
    equation="GRPO with A_t = A (1 - lambda + lambda clip(exp(sign(A) (log pi_T(y_t | x, answer) - log pi_S(y_t))), 1 -+ eps))",
    summary=(
        "Group-relative rewards as in GRPO. A copy of the student, renewed every few steps, reads the answer; where it finds a "
        "token likelier than the student does, that token takes more of a good response's credit and less of a bad one's."
    ),
    knobs=(
        Knob(name="strength", default="0.5", meaning="share of the reshaped advantage at the start (lambda)"),
        Knob(name="strength_steps", default="50", meaning="steps in which that share falls to zero"),
        Knob(name="reshape_clip", default="0.2", meaning="farthest that a token's factor may lie from 1 (eps)"),
        Knob(name="refresh_every", default="10", meaning="steps between copies of the student into the teacher"),
        Knob(name="column", default="'answer'", meaning="column of the data that the teacher reads"),
        _LOW,
        Knob(name="clip_high", default="0.2", meaning="how far above 1"),
        _N,
        _LENGTH,
    ),
    settings="200 steps on Qwen3-VL-4B and 8B",
    exact_check="the sign is that of A; |A_t - A| <= lambda eps |A|; lambda = 0 or an indifferent teacher is GRPO",
    differs="the ratio's clip is GRPO's customary 0.2; group size and length are ours",
)


def srpo(
    *,
    k: int = 100,
    beta: float = 0.5,
    certainty: float = 1.0,
    average_rate: float = 0.05,
    importance_cap: float = 2.0,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    n: int = 8,
    max_new_tokens: int = 1024,
) -> Recipe:
    """Sample routing: wrong responses that a teacher can correct are distilled, all others get their reward.

    Reference: arXiv:2604.02288.
    """
    corrected = (Outcome(correct=False), Taught())
    return Recipe(
        name="srpo",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=SelfTeacher(
            update=Average(rate=average_rate), context=FirstAvailable(contexts=(PeerSolution(), AttemptFeedback()))
        ),
        terms=(
            Term(
                name="divergence",
                signal=generalised_divergence(beta, support=TopK(k=k, chosen_by="student", rest="tail")),
                weights=(TeacherCertainty(rate=certainty), ImportanceWeight(cap=importance_cap)),
                routes=corrected,
                counts="written",
            ),
            Term(
                name="reward",
                signal=ScoreFunction(advantage=GroupRelative(), ratio=Clipped(low=clip_low, high=clip_high)),
                routes=(Otherwise(than=corrected),),
                counts="written",
            ),
        ),
    )


SRPO = Card(
    title="Unifying group-relative and self-distillation policy optimisation via sample routing",
    paper="2604.02288",
    equation="(sum_{z=1} w_t JSD_beta(pi_T(. | x, c), pi_S) + sum_{z=0} GRPO_t) / tokens, z = wrong with c, w ~ exp(-rate H_T)",
    summary=(
        "As in SDPO the teacher reads a right peer or the verifier's feedback, but only wrong responses are distilled, tokens "
        "of a sure teacher first. Right responses, and wrong ones that nobody can correct, get their group-relative reward."
    ),
    knobs=(
        Knob(name="k", default="100", meaning="student's likeliest entries, the others in one bucket"),
        Knob(name="beta", default="0.5", meaning="teacher's share of the mixture; 0 forward KL, 1 reverse KL"),
        Knob(name="certainty", default="1.0", meaning="how fast a token's weight falls with the teacher's entropy"),
        Knob(name="average_rate", default="0.05", meaning="rate of the moving average that the teacher is"),
        Knob(name="importance_cap", default="2.0", meaning="largest ratio of student to sampler at a distilled token"),
        _LOW,
        Knob(name="clip_high", default="0.28", meaning="how far above 1"),
        _N,
        _LENGTH,
    ),
    settings="Qwen3-8B; the distilled share starts near 40 % and falls",
    exact_check="every response is in one of the two terms; all right is GRPO; certainty 0 weighs tokens alike; mean weight 1",
    differs="read from notes and a port; rate of the average and importance cap are SDPO's",
)


def dgrpo(
    teacher: str = "",
    *,
    beta: float = 1.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    n: int = 8,
    max_new_tokens: int = 1024,
) -> Recipe:
    """Distillation inside GRPO: the group-relative reward plus a reverse KL to the teacher on the same tokens.

    Reference: arXiv:2605.12227. Differs from the paper: direction and weight of the KL are reconstructed.
    """
    return Recipe(
        name="dgrpo",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="reward",
                signal=ScoreFunction(advantage=GroupRelative(), ratio=Clipped(low=clip_low, high=clip_high)),
            ),
            Term(name="divergence", signal=ReverseKL(), scale=beta),
        ),
    )


DGRPO = Card(
    title="Distillation inside GRPO, for long contexts",
    paper="2605.12227",
    equation="GRPO + beta mean_t KL(pi_S || pi_T)(s_t)",
    summary="Group-relative rewards and, on the same responses, the exact reverse KL to a teacher at every token.",
    knobs=(
        Knob(name="beta", default="1.0", meaning="weight of the reverse KL; 0 is GRPO"),
        _LOW,
        Knob(name="clip_high", default="0.2", meaning="how far above 1"),
        _N,
        _LENGTH,
    ),
    settings="not found",
    exact_check="beta = 0 is GRPO; equal rewards leave beta times the reverse KL of gkd at beta 1 on the student's text",
    differs="reconstructed from the abstract: that the form is additive, and direction and weight of the KL",
)

METHODS = ((rlsd, RLSD), (srpo, SRPO), (dgrpo, DGRPO))
"""The functions of this family with their cards."""
