"""Methods that train on responses which an earlier student wrote."""

from tutelage.objectives import LogRatio, NoRatio, SampledKL, ScoreFunction, Term
from tutelage.recipes.cards import LENGTH, Card, Knob, responses
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import BufferedRollouts, ReplayRollouts, Sampling
from tutelage.teachers.parts import ModelTeacher
from tutelage.weighting import Freshness


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


def f_opd(
    teacher: str = "",
    *,
    staleness: int = 4,
    reuse: float = 0.5,
    drift: float = 1.0,
    age: float = 0.0,
    floor: float = 0.1,
    drop: float = 0.0,
    anchor: float = 0.05,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """f-OPD: some responses are of an earlier student; the further they drifted, the less they count.

    Reference: arXiv:2605.17862.
    """
    worth = Freshness(drift=drift, age=age, floor=floor, drop=drop)
    terms = [Term(name="policy_gradient", signal=ScoreFunction(advantage=LogRatio(relative_to="student")), weights=(worth,))]
    if anchor != 0.0:
        terms.append(Term(name="anchor", signal=SampledKL(estimator="k3", against="behaviour"), scale=anchor))
    return Recipe(
        name="f_opd",
        rollouts=BufferedRollouts(
            sampling=Sampling(n=n, max_new_tokens=max_new_tokens),
            staleness=staleness,
            reuse=reuse,
        ),
        teacher=ModelTeacher(model=teacher),
        terms=tuple(terms),
    )


F_OPD = Card(
    title="f-OPD: freshness-aware control",
    paper="2605.17862",
    equation=(
        "-mean_t w rho sg[log pi_T - log pi_S](y_t) + beta k3(pi_S, pi_mu),  "
        "w ~ clip(exp(-a mean_t |log pi_S - log pi_mu| - b age), w_min, 1),  mean 1"
    ),
    summary=(
        "Sampler and trainer do not wait for each other: a share of the responses was written some steps ago. Each counts for "
        "less the further the student has moved from whoever wrote it, and an anchor holds the student near."
    ),
    knobs=(
        Knob(name="staleness", default="4", meaning="age in steps of the responses that come out of the buffer; 0 is opd"),
        Knob(name="reuse", default="0.5", meaning="share of a step's prompts with such responses"),
        Knob(name="drift", default="1.0", meaning="a: rate of the weight's decay per nat of mean drift"),
        Knob(name="age", default="0.0", meaning="b: rate per step of age, in the place of the supervision's own drift"),
        Knob(name="floor", default="0.1", meaning="least weight of a response that is not dropped (w_min)"),
        Knob(name="drop", default="0.0", meaning="weight below which a response does not count at all (w_drop)"),
        Knob(name="anchor", default="0.05", meaning="beta: weight of the divergence from whoever wrote the response"),
        responses(4),
        LENGTH,
    ),
    settings="Qwen3 30B-A3B to 8B; reasoning, tools and coding",
    exact_check="staleness 0: opd to the bit; the weight falls with drift and age; below w_drop a response gets none",
    differs=(
        "reconstructed from the abstract: the form of the weight and all of its constants are ours and are knobs. The teacher "
        "does not move, so its drift is zero and age stands in for it; a dropped response is not written again at once"
    ),
)

METHODS = ((lightning, LIGHTNING), (f_opd, F_OPD))
"""The functions of this family with their cards."""
