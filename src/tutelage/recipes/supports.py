"""Methods that look at a few of the likeliest entries at every token instead of the sampled one."""

from typing import Literal

from tutelage.objectives import CandidateActions, ReverseKL, Term, TopK
from tutelage.recipes.cards import LENGTH, Card, Knob, responses
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.parts import ModelTeacher
from tutelage.weighting import AnyWeight, EntropyAbove, SkipFirst


def revisiting(
    teacher: str = "",
    *,
    k: int = 32,
    rest: Literal["tail", "renormalise", "truncate"] = "renormalise",
    include_sampled: bool = False,
    entropy_ratio: float = 0.2,
    skip_first: tuple[str, ...] = ("<", "think", "<|im_end|>"),
    top_p: float = 0.9,
    n: int = 8,
    max_new_tokens: int = 256,
) -> Recipe:
    """Exact reverse KL on the teacher's likeliest entries, at uncertain tokens, the first marks of the format left out.

    Reference: "Revisiting OPD", arXiv:2603.25562, and its released code.
    """
    weights: list[AnyWeight] = [SkipFirst(tokens=skip_first)] if skip_first else []
    if entropy_ratio < 1.0:
        weights.append(EntropyAbove(quantile=1.0 - entropy_ratio))
    return Recipe(
        name="revisiting",
        rollouts=StudentRollouts(sampling=Sampling(n=n, top_p=top_p, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="divergence",
                signal=ReverseKL(support=TopK(k=k, chosen_by="teacher", rest=rest, include_sampled=include_sampled)),
                weights=tuple(weights),
                counts="selected",
            ),
        ),
    )


REVISITING = Card(
    title="Revisiting on-policy distillation: empirical failure modes and simple fixes",
    paper="2603.25562",
    equation="mean_{t kept} sum_{v in K_T} p~ log(p~ / q~)(v | s_t),  p~, q~ = pi_S, pi_T conditioned on the teacher's top K",
    summary=(
        "The student writes within its top p. At its most uncertain tokens it matches the teacher on the teacher's likeliest "
        "entries, exactly; the first occurrence of tokens that only open or close the answer is left out."
    ),
    knobs=(
        Knob(name="k", default="32", meaning="teacher's likeliest entries"),
        Knob(name="rest", default="'renormalise'", meaning="what becomes of the other entries: tail, renormalise, truncate"),
        Knob(name="include_sampled", default="False", meaning="also keep the token that was drawn"),
        Knob(name="entropy_ratio", default="0.2", meaning="share of the tokens kept, by the student's entropy; 1 keeps all"),
        Knob(
            name="skip_first",
            default="('<', 'think', '<|im_end|>')",
            meaning="tokens whose first occurrence in a response is left out",
        ),
        Knob(name="top_p", default="0.9", meaning="of the sampling"),
        responses(8),
        LENGTH,
    ),
    settings="learning rate 1e-6 to 2e-6, 16 prompts x 8 responses, up to 16,384 tokens",
    exact_check="K = V without masks is the exact reverse KL; it is never negative; only first occurrences are left out",
    differs=(
        "the script's clamp of the log-ratio to [-5, 5] is left out. The entropy's quantile is taken over all of the term's "
        "tokens, skipped ones included; the mean is over the tokens that are left"
    ),
)


def many_faces(
    teacher: str = "",
    *,
    k: int = 16,
    include_sampled: bool = False,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """Stop-gradient top-k reverse KL: the likeliest entries as enumerated actions.

    Reference: "The Many Faces of OPD", arXiv:2605.11182.
    """
    return Recipe(
        name="many_faces",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(Term(name="policy_gradient", signal=CandidateActions(k=k, include_sampled=include_sampled)),),
    )


MANY_FACES = Card(
    title="The many faces of on-policy distillation: pitfalls, mechanisms, and fixes",
    paper="2605.11182",
    equation="mean_t sum_{v in K_S} sg[pi_S (log pi_S - log pi_T)](v | s_t) log pi_S(v | s_t)",
    summary=(
        "The student writes; its own likeliest entries are all taken as actions, each weighed by its probability. Against the "
        "plain sum over the top k an entry is raised as soon as the teacher gives it more than the student does."
    ),
    knobs=(
        Knob(name="k", default="16", meaning="student's likeliest entries"),
        Knob(name="include_sampled", default="False", meaning="also take the token that was drawn"),
        responses(4),
        LENGTH,
    ),
    settings="the paper also adapts the teacher by rewards and the student by supervised training first",
    exact_check="the plain top-k sum has sum_{v in K} pi_S grad log pi_S more gradient, which is zero at K = V",
    differs="K is not stated in the sources that we read: `k` is a knob",
)

METHODS = ((revisiting, REVISITING), (many_faces, MANY_FACES))
"""The functions of this family with their cards."""
