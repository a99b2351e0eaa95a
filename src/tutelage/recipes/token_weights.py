"""Methods that say which tokens count, and how much, by what was measured on the whole step."""

from typing import Literal

from tutelage.objectives import ForwardKL, LogRatio, NoRatio, ScoreFunction, SequenceMean, Temperatures, Term
from tutelage.recipes.cards import LENGTH, Card, Knob, responses
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.white_box import generalised_divergence
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.parts import Frozen, ModelTeacher, ReferenceSolution, SelfTeacher
from tutelage.weighting import EarlyAgreement, ImportanceSampled, PositionRamp, Teachable


def tip(
    teacher: str = "",
    *,
    ratio: float = 0.5,
    score: Literal["product", "either"] = "product",
    entropy_power: float = 1.0,
    divergence_power: float = 0.0,
    divergence_k: int = 0,
    beta: float = 1.0,
    n: int = 8,
    max_new_tokens: int = 256,
) -> Recipe:
    """Token importance: the loss acts on a share of the tokens, drawn by how uncertain or how far apart the sides are.

    Reference: TIP, arXiv:2604.14084, and its released code.
    """
    drawn = ImportanceSampled(
        ratio=ratio, score=score, entropy_power=entropy_power, divergence_power=divergence_power, k=divergence_k
    )
    return Recipe(
        name="tip",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(Term(name="divergence", signal=generalised_divergence(beta), weights=(drawn,), counts="selected"),),
    )


TIP = Card(
    title="TIP: token importance in on-policy distillation",
    paper="2604.14084",
    equation="mean_{t drawn} D(pi_S, pi_T)(s_t),  P(t drawn) ~ h_t^a d_t^g,  h = H_S / ln V,  d = JSD / ln 2",
    summary=(
        "The student writes and matches the teacher's whole distribution, but only at a share of its tokens: drawn without "
        "replacement with a chance that grows with its entropy and, if asked for, with how far it is from the teacher."
    ),
    knobs=(
        Knob(name="ratio", default="0.5", meaning="share of the tokens that is drawn, 0.1 to 0.5 in the paper; 1 takes all"),
        Knob(name="score", default="'product'", meaning="'product' h^a d^g, 'either' 1 - (1 - h) (1 - d)"),
        Knob(name="entropy_power", default="1.0", meaning="a; with both powers 0 the draw is uniform"),
        Knob(name="divergence_power", default="0.0", meaning="g; 0 leaves the divergence out"),
        Knob(name="divergence_k", default="0", meaning="teacher's likeliest entries in the score's divergence; 0 takes all"),
        Knob(name="beta", default="1.0", meaning="of the loss: 1 reverse KL, 0 forward KL, between them the Jensen-Shannon"),
        responses(8),
        LENGTH,
    ),
    settings="token ratio 0.1 to 0.5, 8 responses per prompt",
    exact_check="ratio 1 takes every token; both powers 0 draw uniformly; h and d lie in [0, 1]",
    differs=(
        "the mean is over the drawn tokens, as a loss only on them says. The score 'either' is reconstructed from the paper's "
        "text; which divergence is minimised is a knob"
    ),
)


def ta_opd(
    teacher: str = "",
    *,
    keep: float = 0.05,
    k: int = 16,
    low: float = 0.05,
    high: float = 0.95,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """Token teachability: sampled-token OPD where both sides disagree about entries that both find likely.

    Reference: TA-OPD, arXiv:2605.26844.
    """
    return Recipe(
        name="ta_opd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="policy_gradient",
                signal=ScoreFunction(),
                weights=(Teachable(keep=keep, k=k, low=low, high=high),),
                counts="selected",
            ),
        ),
    )


TA_OPD = Card(
    title="Token teachability in on-policy distillation",
    paper="2605.26844",
    equation="-mean_{t in top rho of D~ C~} rho_t sg[log pi_T - log pi_mu](y_t)",
    summary=(
        "Sampled-token OPD on few tokens: those where the forward KL on the likeliest entries is large and much of the "
        "teacher's mass lies on entries that the student finds likely too. Both factors are put on [0, 1] by quantiles "
        "of the step."
    ),
    knobs=(
        Knob(name="keep", default="0.05", meaning="share of the tokens kept, 0.05 to 0.1 in the paper; 1 is opd"),
        Knob(name="k", default="16", meaning="likeliest entries of each side in the score"),
        Knob(name="low", default="0.05", meaning="quantile that becomes 0"),
        Knob(name="high", default="0.95", meaning="quantile that becomes 1"),
        responses(4),
        LENGTH,
    ),
    settings="Qwen2.5 and Qwen3 students",
    exact_check="equal sides and disjoint likeliest entries both have score 0; keep 1 is opd",
    differs=(
        "both sides are conditioned on the union of their likeliest entries: each on its own ones alone, as one public version "
        "has it, would make the forward KL infinite wherever the sets differ"
    ),
)


def iw_opd(teacher: str = "", *, boost: float = 0.5, top_p: float = 0.95, n: int = 4, max_new_tokens: int = 256) -> Recipe:
    """Sampled-token OPD in which what follows a disagreement counts for less.

    Reference: IW-OPD, arXiv:2606.22600, and its released code.
    """
    return Recipe(
        name="iw_opd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, top_p=top_p, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="policy_gradient",
                signal=ScoreFunction(advantage=LogRatio(), ratio=NoRatio()),
                weights=(EarlyAgreement(boost=boost),),
            ),
        ),
    )


IW_OPD = Card(
    title="The position bias of on-policy distillation: importance-weighted OPD",
    paper="2606.22600",
    equation=(
        "-mean_t sg[w_t A_t] log pi_S(y_t),  w_t = 1 + gamma (1 - sum_{u<t} |A_u| / sum_u |A_u|),  A = log pi_T - log pi_mu"
    ),
    summary=(
        "The student writes. A token's weight falls with the share of its response's disagreement that lies before it, because "
        "the teacher would hardly have come to such a prefix."
    ),
    knobs=(
        Knob(name="boost", default="0.5", meaning="gamma: what the first token gets above one; 0 is opd without a ratio"),
        Knob(name="top_p", default="0.95", meaning="of the sampling"),
        responses(4),
        LENGTH,
    ),
    settings="learning rate 1e-6, top_p 0.95, Qwen3 4B taught by 30B-A3B",
    exact_check="the first weight is 1 + gamma, the last 1 + gamma |A_T| / sum |A|; scaling all A changes no weight",
)


def pw_opsd(
    *,
    floor: float = 0.25,
    centre: float = 0.30,
    width: float = 0.10,
    entry_cap: float | None = 0.05,
    temperature: float = 1.1,
    top_p: float = 0.95,
    top_k: int = 20,
    n: int = 1,
    max_new_tokens: int = 1024,
) -> Recipe:
    """On-policy self-distillation whose early tokens count for less.

    Reference: PW-OPSD, arXiv:2605.21606, and its released code.
    """
    return Recipe(
        name="pw_opsd",
        rollouts=StudentRollouts(
            sampling=Sampling(n=n, temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=max_new_tokens)
        ),
        teacher=SelfTeacher(update=Frozen(), context=ReferenceSolution()),
        terms=(
            Term(
                name="divergence",
                signal=ForwardKL(entry_cap=entry_cap),
                weights=(PositionRamp(floor=floor, centre=centre, width=width),),
                reduction=SequenceMean(),
            ),
        ),
        temperatures=Temperatures(student=temperature, teacher=temperature),
    )


PW_OPSD = Card(
    title="When are teacher tokens reliable? Position-weighted on-policy self-distillation",
    paper="2605.21606",
    equation="mean_y mean_t w(u_t) FKL_cap(s_t),  w(u) = w_min + (1 - w_min) sigmoid((u - tau) / s),  u_t = (t - 1/2) / T",
    summary=(
        "As opsd: the student that has read the reference solution teaches the one that has not. Tokens early in the response "
        "count for less, by a ramp over its length."
    ),
    knobs=(
        Knob(name="floor", default="0.25", meaning="w_min, the weight that early tokens keep; 1 is opsd"),
        Knob(name="centre", default="0.3", meaning="tau, where the ramp is half-way"),
        Knob(name="width", default="0.1", meaning="s, how gently the ramp rises"),
        Knob(name="entry_cap", default="0.05", meaning="bound in nats on each entry's term; None for no bound"),
        Knob(name="temperature", default="1.1", meaning="of the sampling and of both softmaxes in the loss"),
        Knob(name="top_p", default="0.95", meaning="of the sampling"),
        Knob(name="top_k", default="20", meaning="of the sampling"),
        responses(1),
        Knob(name="max_new_tokens", default="1024", meaning="longest response in tokens"),
    ),
    settings="learning rate 5e-6, 150 steps, 1,024 tokens",
    exact_check="floor 1 is opsd; the weight rises along the response from w_min towards 1 and does not know of padding",
    differs="temperature, top_p and top_k are those of opsd; the sources that we read do not repeat them",
)

METHODS = ((tip, TIP), (ta_opd, TA_OPD), (iw_opd, IW_OPD), (pw_opsd, PW_OPSD))
"""The functions of this family with their cards."""
