"""Methods that treat whole rollouts, or whole stretches of them, by what they are."""

from typing import Literal

from tutelage.objectives import Clipped, CrossEntropy, GroupRelative, LogRatio, ReverseKL, ScoreFunction, Term, TopK
from tutelage.objectives.signals import AnySignal
from tutelage.recipes.cards import LENGTH, Card, Knob, responses
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import EnvironmentRollouts, Sampling, StudentRollouts
from tutelage.teachers.parts import ModelTeacher
from tutelage.weighting import Drift, EntropyContrast, LikelyToTeacher, Outcome, PerplexityShare


def fire_opd(
    teacher: str = "",
    *,
    dropped: float = 0.2,
    teacher_weight: float = 1.0,
    student_weight: float = 1.0,
    clip: float = 0.2,
    n: int = 1,
    max_new_tokens: int = 256,
) -> Recipe:
    """Filter, then reweight: rollouts that the teacher finds unlikely are dropped, tokens weighed by both entropies.

    Reference: FiRe-OPD, arXiv:2606.02684, and its released code.
    """
    return Recipe(
        name="fire_opd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="policy_gradient",
                signal=ScoreFunction(ratio=Clipped(low=clip, high=clip)),
                weights=(EntropyContrast(teacher=teacher_weight, student=student_weight),),
                routes=(LikelyToTeacher(quantile=dropped),),
            ),
        ),
    )


FIRE_OPD = Card(
    title="FiRe-OPD: filter, then reweight",
    paper="2606.02684",
    equation=(
        "-mean_{t in kept y} clip(rho_t) sg[w_t (log pi_T - log pi_mu)](y_t),  "
        "w ~ (1 + a (1 - H_T / max H_T)) (1 + b H_S / max H_S)"
    ),
    summary=(
        "Sampled-token OPD, clipped as in PPO. The share of rollouts with the lowest mean log-probability under the teacher is "
        "dropped; among the rest tokens count for more where the teacher is sure and the student is not, with mean weight 1."
    ),
    knobs=(
        Knob(name="dropped", default="0.2", meaning="share of the rollouts that is dropped; 0 keeps all"),
        Knob(name="teacher_weight", default="1.0", meaning="a: what a sure teacher adds to a token's weight"),
        Knob(name="student_weight", default="1.0", meaning="b: what an unsure student adds"),
        Knob(name="clip", default="0.2", meaning="how far the probability ratio may move before it gives no gradient"),
        responses(1),
        LENGTH,
    ),
    settings="learning rate 1e-6, batch 1,024, up to 16,384 tokens, sampler's and trainer's ratio cut at 5",
    exact_check="a = b = 0 without a filter has the mean gradient of opd; the mean weight is 1; kept share 1 - p up to ties",
    differs=(
        "maxima and mean are those of the whole step, not of a micro-batch as in the code, so no split of the step matters; "
        "the cut of the sampler's ratio at 5 is left out, because the clip compares with the sampler itself"
    ),
)


def scope(
    teacher: str = "",
    *,
    temperature: float = 1.0,
    student_prefers: Literal["likely", "unlikely"] = "unlikely",
    k: int = 0,
    n: int = 8,
    sampling_temperature: float = 0.6,
    max_new_tokens: int = 256,
) -> Recipe:
    """Wrong rollouts are taught by the teacher, right ones are imitated; perplexities say how much each counts.

    Reference: SCOPE, arXiv:2604.10688, and its released code.
    """
    taught: AnySignal = ReverseKL(support=TopK(k=k, rest="renormalise")) if k else ScoreFunction()
    return Recipe(
        name="scope",
        rollouts=StudentRollouts(sampling=Sampling(n=n, temperature=sampling_temperature, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="wrong",
                signal=taught,
                weights=(PerplexityShare(of="teacher", temperature=temperature),),
                routes=(Outcome(correct=False),),
            ),
            Term(
                name="right",
                signal=CrossEntropy(),
                weights=(PerplexityShare(of="student", prefers=student_prefers, temperature=temperature),),
                routes=(Outcome(correct=True),),
            ),
        ),
    )


SCOPE = Card(
    title="SCOPE: dual-path routing with perplexity weights",
    paper="2604.10688",
    equation=(
        "mean_{t in W} w_i L_OPD + mean_{t in C} w_i (-log pi_S(y_t)),  "
        "w = |W| softmax_W(-log PPL_T / tau) on wrong, |C| softmax_C(log PPL_S / tau) on right rollouts"
    ),
    summary=(
        "A verifier parts the responses to a prompt. On wrong ones the teacher corrects the student, most where it is at home; "
        "right ones are imitated, most those that the student itself found unlikely. Each path is a mean over its own tokens."
    ),
    knobs=(
        Knob(name="temperature", default="1.0", meaning="tau, of both softmaxes over rollouts; infinite weighs all alike"),
        Knob(
            name="student_prefers",
            default="'unlikely'",
            meaning="which right rollouts get more; the released launch script has 'likely'",
        ),
        Knob(name="k", default="0", meaning="0: sampled-token OPD on wrong rollouts; else reverse KL on the teacher's top k"),
        responses(8),
        Knob(name="sampling_temperature", default="0.6", meaning="of the sampling"),
        LENGTH,
    ),
    settings="batch 256, up to 12,288 tokens, Qwen3 1.7B taught by 8B",
    exact_check="weights of a prompt's routed rollouts add up to their number; all wrong is weighted opd, all right sft",
    differs=(
        "on wrong rollouts the code has a k3 estimate or a top-k reverse KL; here the score function of opd, whose gradient is "
        "that of the reverse KL, or the top k"
    ),
)


def sod(
    teacher: str = "",
    *,
    coefficient: float = 1.0,
    delta: float = 0.2,
    epsilon: float = 1e-6,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    environment: str = "",
    n: int = 16,
    max_new_tokens: int = 256,
) -> Recipe:
    """Rewards, and sampled-token OPD that counts for less in steps of the response that have drifted from the teacher.

    Reference: SOD, arXiv:2605.07725, and its released code.
    """
    ratio, sampling = Clipped(low=clip_low, high=clip_high), Sampling(n=n, max_new_tokens=max_new_tokens)
    return Recipe(
        name="sod",
        rollouts=EnvironmentRollouts(environment=environment, sampling=sampling)
        if environment
        else StudentRollouts(sampling=sampling),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(name="reward", signal=ScoreFunction(advantage=GroupRelative(), ratio=ratio)),
            Term(
                name="distillation",
                signal=ScoreFunction(advantage=LogRatio(coefficient=coefficient), ratio=ratio),
                weights=(Drift(bound=1.0 + delta, epsilon=epsilon),),
            ),
        ),
    )


SOD = Card(
    title="SOD: step-wise on-policy distillation for small tool agents",
    paper="2605.07725",
    equation=(
        "-mean_t clip(rho_t) sg[A_GRPO] - mean_t clip(rho_t) sg[c w_k(t) (log pi_T - log pi_mu)](y_t),  "
        "w_k = min((d_1 + e) / (d_k + e), 1 + delta)"
    ),
    summary=(
        "The verifier's reward relative to the other responses to the prompt, plus sampled-token OPD. A response falls into "
        "steps, the student's runs between tool outputs; a step in which both sides disagree more than in the first counts "
        "for less."
    ),
    knobs=(
        Knob(name="coefficient", default="1.0", meaning="factor on the log-ratio (c)"),
        Knob(name="delta", default="0.2", meaning="largest weight less one (the code's default is 0.5)"),
        Knob(name="epsilon", default="1e-06", meaning="added to both sides of the quotient, in nats"),
        Knob(name="clip_low", default="0.2", meaning="how far the probability ratio may fall before it gives no gradient"),
        Knob(name="clip_high", default="0.28", meaning="how far it may rise"),
        Knob(
            name="environment",
            default="''",
            meaning="the function that replies to the student's turns; without it there is one",
        ),
        responses(16),
        LENGTH,
    ),
    settings="learning rate 1e-6, batch 64, 16 turns, up to 20,480 tokens",
    exact_check="one step is GRPO plus OPD; the product over steps is the quotient; scaling all d changes nothing",
    differs=(
        "the two advantages are clipped each by itself and not as a sum: the same where the ratio is inside the clip; "
        "without an environment a response is one step, which has weight 1"
    ),
)

METHODS = ((fire_opd, FIRE_OPD), (scope, SCOPE), (sod, SOD))
"""The functions of this family with their cards."""
