"""Methods whose teacher is another model with visible probabilities."""

from typing import Literal

from tutelage.errors import ConfigError
from tutelage.objectives import (
    ForwardKL,
    FullVocabulary,
    Importance,
    JensenShannon,
    LogRatio,
    NoRatio,
    ReverseKL,
    ScoreFunction,
    StudentKLBaseline,
    Term,
    TopK,
    TopKLBaseline,
)
from tutelage.objectives.divergences import Support
from tutelage.objectives.signals import AnySignal
from tutelage.recipes.cards import LENGTH, Card, Knob, responses
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import MixedRollouts, Sampling, StudentRollouts, TeacherPrefixRollouts
from tutelage.teachers.parts import ModelTeacher
from tutelage.types.schedules import Cosine
from tutelage.weighting import TrustMask


def generalised_divergence(beta: float, *, support: Support = FullVocabulary()) -> AnySignal:
    """GKD's divergence: Jensen-Shannon for 0 < beta < 1, forward KL at 0, reverse KL at 1.

    At the ends the scale jumps: JSD_beta / beta tends to the forward KL as beta -> 0, and JSD_beta / (1 - beta) to the
    reverse KL as beta -> 1, while JSD_beta itself tends to zero.

    Raises:
        ConfigError: beta is outside [0, 1].
    """
    if not 0.0 <= beta <= 1.0:
        raise ConfigError(f"beta must be in [0, 1], got {beta!r}: 0 is the forward KL, 1 the reverse KL, between them the JSD.")
    if beta == 0.0:
        return ForwardKL(support=support)
    return ReverseKL(support=support) if beta == 1.0 else JensenShannon(beta=beta, support=support)


def gkd(
    teacher: str = "", *, beta: float = 0.5, student_fraction: float = 0.5, n: int = 1, max_new_tokens: int = 256
) -> Recipe:
    """Generalised knowledge distillation: an exact divergence on a mix of the student's and the data's responses.

    Reference: Agarwal et al. 2023, arXiv:2306.13649; defaults of TRL's trainer.
    """
    return Recipe(
        name="gkd",
        rollouts=MixedRollouts(student_fraction=student_fraction, sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(Term(name="divergence", signal=generalised_divergence(beta), on=("student", "dataset")),),
    )


GKD = Card(
    title="On-policy distillation of language models: learning from self-generated mistakes",
    paper="2306.13649",
    equation="E_{y ~ mix(student, data)} mean_t JSD_beta(teacher, student)(x, y_<t)",
    summary=(
        "With probability student_fraction a batch is written by the student, else it is the data's own. The student matches "
        "the teacher's whole distribution at every token; no gradient flows through the sampling."
    ),
    knobs=(
        Knob(
            name="beta",
            default="0.5",
            meaning="teacher's share of the mixture; 0 forward KL, 1 reverse KL, where the scale jumps",
        ),
        Knob(name="student_fraction", default="0.5", meaning="probability that a batch is the student's (the paper's lambda)"),
        Knob(name="n", default="1", meaning="responses per prompt in the student's batches"),
        LENGTH,
    ),
    settings="temperature 1; the paper finds student_fraction = 1 best",
    exact_check="JSD_0.5 is symmetric and at most log 2; it is zero only where both sides agree; JSD_beta / beta -> forward KL",
)


def opd(
    teacher: str = "",
    *,
    n: int = 4,
    coefficient: float = 1.0,
    discount: float = 0.0,
    importance_cap: float | None = None,
    max_new_tokens: int = 256,
) -> Recipe:
    """Sampled-token on-policy distillation: policy gradient on the log-ratio of the token that was drawn.

    Reference: Thinking Machines 2025-10, `train_on_policy.py` of its cookbook.
    """
    return Recipe(
        name="opd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="policy_gradient",
                signal=ScoreFunction(
                    advantage=LogRatio(coefficient=coefficient, discount=discount), ratio=Importance(cap=importance_cap)
                ),
            ),
        ),
    )


OPD = Card(
    title="Sampled-token on-policy distillation",
    paper="Thinking Machines, 2025-10",
    equation="-mean_t (pi_S / pi_mu)(y_t) sg[c (log pi_T(y_t) - log pi_mu(y_t))],  y ~ pi_mu",
    summary=(
        "The student writes; the teacher gives one log-probability per token. The log-ratio is the advantage of that token "
        "alone: no return, no group baseline, no reward."
    ),
    knobs=(
        responses(4),
        Knob(name="coefficient", default="1.0", meaning="factor on the log-ratio (kl_penalty_coef)"),
        Knob(
            name="discount",
            default="0.0",
            meaning="weight of later log-ratios in a token's return (kl_discount_factor); 1 is the whole response's",
        ),
        Knob(name="importance_cap", default="None", meaning="bound on pi_S / pi_mu; public scripts use 5"),
        LENGTH,
    ),
    settings="learning rate 1e-6 to 1e-5 for whole models, 1e-4 for LoRA",
    exact_check="the mean of A grad log pi_S over all tokens is -grad KL(pi_S || pi_T); the mean of A is -KL(pi_S || pi_T)",
)


def vopd(
    teacher: str = "",
    *,
    baseline_k: int = 100,
    chosen_by: Literal["student", "teacher"] = "student",
    n: int = 1,
    max_new_tokens: int = 256,
) -> Recipe:
    """OPD with the reverse KL of each prefix as a control variate: the same mean gradient, less variance.

    Reference: "KL for a KL", arXiv:2605.07865, and its released code.
    """
    baseline = StudentKLBaseline(k=baseline_k) if chosen_by == "student" else TopKLBaseline(k=baseline_k)
    return Recipe(
        name="vopd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="policy_gradient",
                signal=ScoreFunction(advantage=LogRatio(relative_to="student", baseline=baseline), ratio=NoRatio()),
            ),
        ),
    )


VOPD = Card(
    title="KL for a KL: on-policy distillation with a control-variate baseline",
    paper="2605.07865",
    equation="-mean_t sg[r_t + KL(pi_S || pi_T)(s_t)] log pi_S(y_t),  r_t = log pi_T(y_t) - log pi_S(y_t)",
    summary=(
        "Sampled-token OPD whose advantage is centred by its own mean under the student: the reverse KL of the prefix, over "
        "the student's top entries renormalised on both sides, or over the whole vocabulary."
    ),
    knobs=(
        Knob(name="baseline_k", default="100", meaning="likeliest entries in the baseline; 0 takes all, of the student's"),
        Knob(name="chosen_by", default="'student'", meaning="whose entries; `teacher`: with the rest as one event (served)"),
        responses(1),
        LENGTH,
    ),
    settings="learning rate 1e-5, LoRA rank 64 alpha 128, 2,048 new tokens, accumulation 64, temperature 1",
    exact_check="the mean gradient is that of the reverse KL for every baseline; the variance is lower; k = V is the full KL",
)


def tropd(
    teacher: str = "",
    *,
    k: int = 64,
    rest: Literal["tail", "renormalise", "truncate"] = "renormalise",
    prefix_scale: float = 0.001,
    prefix_steps: int = 200,
    forced_trust: bool = False,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """Trust-region OPD: policy gradient where the teacher would accept the token, forward KL where it would not.

    Reference: arXiv:2606.01249. Differs from the paper: it does not say what becomes of the entries outside the teacher's
    top k; `rest` is our choice.
    """
    outlier = ForwardKL(support=TopK(k=k, chosen_by="teacher", rest=rest))
    guided = prefix_steps > 0
    sampling = Sampling(n=n, max_new_tokens=max_new_tokens)
    terms = (
        Term(
            name="trusted",
            signal=ScoreFunction(advantage=LogRatio(relative_to="student"), ratio=NoRatio()),
            weights=(TrustMask(forced=forced_trust),),
        ),
        Term(name="outlier", signal=outlier, weights=(TrustMask(inside=False, forced=forced_trust),)),
    )
    prefix = Term(name="prefix", signal=outlier, on=("teacher",), scale=prefix_scale)
    return Recipe(
        name="tropd",
        rollouts=(
            TeacherPrefixRollouts(sampling=sampling, prefix_fraction=Cosine(start=1.0, end=0.0, steps=prefix_steps))
            if guided
            else StudentRollouts(sampling=sampling)
        ),
        teacher=ModelTeacher(model=teacher),
        terms=(*terms, prefix) if guided else terms,
    )


TROPD = Card(
    title="Trust region on-policy distillation",
    paper="2606.01249",
    equation=(
        "-mean_t { M_t sg[r_t] log pi_S(y_t) - (1 - M_t) FKL_{K_T}(s_t) } + beta mean_{teacher's prefix} FKL_{K_T},  "
        "M_t ~ Bernoulli(min(pi_T / pi_S, 1)(y_t))"
    ),
    summary=(
        "Each token is trusted with the probability that speculative decoding would accept it. Trusted tokens get the sampled "
        "reverse KL, outliers the forward KL on the teacher's top k. Early on the teacher writes the first part of each "
        "response; its length falls to zero along a cosine."
    ),
    knobs=(
        Knob(name="k", default="64", meaning="teacher's likeliest entries in the forward KL"),
        Knob(name="rest", default="'renormalise'", meaning="what becomes of the other entries: tail, renormalise, truncate"),
        Knob(name="prefix_scale", default="0.001", meaning="factor on the forward KL over the teacher's prefix (beta)"),
        Knob(name="prefix_steps", default="200", meaning="steps until the prefix is gone; 0 switches the guidance off"),
        Knob(name="forced_trust", default="False", meaning="trust every token: the limit case that leaves plain OPD"),
        responses(4),
        LENGTH,
    ),
    settings="200 steps, learning rate 5e-6, 128 prompts x 4 responses, up to 8,096 tokens",
    exact_check="the mean acceptance under the student is 1 - TV; teacher = student trusts every token and gives no gradient",
    differs="whether the top k is renormalised is not stated in the sources that we read: `rest` is a knob",
)

METHODS = ((gkd, GKD), (opd, OPD), (vopd, VOPD), (tropd, TROPD))
"""The functions of this family with their cards."""
