"""Methods that change what the sampled token is worth."""

from math import log
from typing import Literal

from tutelage.errors import ConfigError
from tutelage.objectives import Clipped, ForwardKL, Importance, LogRatio, ScoreFunction, Term, TopK
from tutelage.recipes.cards import LENGTH, Card, Knob, responses
from tutelage.recipes.recipe import Recipe
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.teachers.parts import AnyTeacher, Frozen, ModelTeacher, NoContext, SelfTeacher
from tutelage.types.schedules import Phases, Scalar
from tutelage.weighting import EntropyAbove, TeacherEntropyAbove


def exopd(
    teacher: str = "",
    *,
    extrapolation: float = 1.25,
    reference: str = "",
    importance_cap: float | None = 5.0,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """Extrapolated OPD: the teacher's log-ratio to a reference counts for more than the pull towards the reference.

    Reference: G-OPD, arXiv:2602.12125. `lam (log pi_T - log pi_R) - (log pi_S - log pi_R)` is
    `lam (log pi_T - log pi_S) + (1 - lam) (log pi_R - log pi_S)`: two log-ratios, one to each teacher.
    """
    anchor: AnyTeacher = ModelTeacher(model=reference) if reference else SelfTeacher(update=Frozen(), context=NoContext())
    shares = {"teacher": extrapolation, "reference": 1.0 - extrapolation}
    terms = tuple(
        Term(
            name=f"towards_{name}",
            signal=ScoreFunction(advantage=LogRatio(coefficient=share), ratio=Importance(cap=importance_cap)),
            teacher=name,
        )
        for name, share in shares.items()
        if share != 0.0
    )
    return Recipe(
        name="exopd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        references={} if extrapolation == 1.0 else {"reference": anchor},
        terms=terms,
    )


EXOPD = Card(
    title="Learning beyond teacher: generalised on-policy distillation with reward extrapolation",
    paper="2602.12125",
    equation="-mean_t rho_t sg[lam (log pi_T - log pi_R) - (log pi_mu - log pi_R)](y_t) log pi_S(y_t)",
    summary=(
        "Sampled-token OPD whose reward, the teacher's log-ratio to a reference, is scaled by lam: above 1 the student goes "
        "past the teacher, away from the reference. The best student is pi_T^lam pi_R^(1 - lam), normalised per prefix."
    ),
    knobs=(
        Knob(name="extrapolation", default="1.25", meaning="lam; 1 is opd with the same cap, 0 the pull to the reference"),
        Knob(
            name="reference",
            default="''",
            meaning="model of the reference, for example the teacher's base before its own training; '' the student at start",
        ),
        Knob(name="importance_cap", default="5.0", meaning="bound on rho = pi_S / pi_mu; None for no bound"),
        responses(4),
        LENGTH,
    ),
    settings="learning rate 1e-5 (1.7B) or 1e-6, batch 1,024, up to 16,384 tokens, lam 0.5 to 1.5",
    exact_check="lam = 1 is opd whatever the reference; at the optimum the advantage is the same for every token",
)


def reopold(
    teacher: str = "",
    *,
    mixture: float = 0.1,
    keep_first: float = 1.0,
    keep_later: float = 0.2,
    switch_step: int = 50,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """Relaxed OPD: no token counts worse than a floor, and later only uncertain tokens count.

    Reference: REOPOLD, arXiv:2603.11137.

    Raises:
        ConfigError: `mixture` is outside [0, 1), or no token would be kept.
    """
    if not 0.0 <= mixture < 1.0 or not all(0.0 < keep <= 1.0 for keep in (keep_first, keep_later)):
        raise ConfigError(
            f"reopold needs 0 <= mixture < 1 and 0 < keep_first, keep_later <= 1, got {mixture!r}, {keep_first!r} and "
            f"{keep_later!r}: the floor is log(mixture) / (1 - mixture), and 0 has none."
        )
    quantile: Scalar = Phases(values=(1.0 - keep_first, 1.0 - keep_later), starts=(switch_step,))
    whole = keep_first == keep_later == 1.0
    return Recipe(
        name="reopold",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(
            Term(
                name="policy_gradient",
                signal=ScoreFunction(advantage=LogRatio(floor=log(mixture) / (1.0 - mixture) if mixture else None)),
                weights=() if whole else (EntropyAbove(quantile=quantile),),
                counts="acting" if whole else "selected",
            ),
        ),
    )


REOPOLD = Card(
    title="REOPOLD: relaxed on-policy distillation",
    paper="2603.11137",
    equation="-mean_{t kept} rho_t sg[max(log pi_T - log pi_mu, log(l) / (1 - l))](y_t)",
    summary=(
        "Sampled-token OPD with a floor under the log-ratio, which comes from a teacher mixed with the student at a share l. "
        "In a first phase all tokens count, in a second those at which the student is most uncertain."
    ),
    knobs=(
        Knob(name="mixture", default="0.1", meaning="l, which sets the floor log(l) / (1 - l) in nats; 0 has no floor"),
        Knob(name="keep_first", default="1.0", meaning="share of the tokens kept in the first phase, by the student's entropy"),
        Knob(name="keep_later", default="0.2", meaning="the same in the second phase"),
        Knob(name="switch_step", default="50", meaning="optimiser step at which the second phase begins"),
        responses(4),
        LENGTH,
    ),
    settings="not stated in the sources that we read",
    exact_check="both shares 1 and l = 0 are opd; the floor touches only tokens whose log-ratio is below it",
    differs="l, the shares and the switch are not stated in the sources that we read, nor how the phases mask: all are knobs",
)


def eopd(
    teacher: str = "",
    *,
    nats: float = 0.8,
    scale: float = 1.0,
    k: int = 16,
    rest: Literal["tail", "renormalise", "truncate"] = "renormalise",
    clip: float = 0.2,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """Entropy-aware OPD: sampled reverse KL everywhere, and forward KL where the teacher is uncertain.

    Reference: arXiv:2603.07079.
    """
    uncertain = Term(
        name="uncertain",
        signal=ForwardKL(support=TopK(k=k, chosen_by="teacher", rest=rest)),
        weights=(TeacherEntropyAbove(nats=nats),),
        scale=scale,
    )
    return Recipe(
        name="eopd",
        rollouts=StudentRollouts(sampling=Sampling(n=n, max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model=teacher),
        terms=(Term(name="policy_gradient", signal=ScoreFunction(ratio=Clipped(low=clip, high=clip))), uncertain),
    )


EOPD = Card(
    title="Entropy-aware on-policy distillation",
    paper="2603.07079",
    equation="mean_t { clipped sampled RKL + alpha 1[H_T > tau] sum_{v in K_T} q~ log(q~ / p~)(v | s_t) }",
    summary=(
        "Sampled-token OPD, clipped as in PPO; at tokens where the teacher's entropy exceeds tau the forward KL on its "
        "likeliest entries is added, so that the student keeps the teacher's alternatives."
    ),
    knobs=(
        Knob(name="nats", default="0.8", meaning="tau, the teacher's entropy above which the forward KL acts"),
        Knob(name="scale", default="1.0", meaning="factor on the forward KL (alpha)"),
        Knob(name="k", default="16", meaning="teacher's likeliest entries in the forward KL"),
        Knob(name="rest", default="'renormalise'", meaning="what becomes of the other entries: tail, renormalise, truncate"),
        Knob(name="clip", default="0.2", meaning="how far the probability ratio may move before it gives no gradient"),
        responses(4),
        LENGTH,
    ),
    settings="six mathematics sets with Qwen3 0.6B to 4B students",
    exact_check="tau = inf has the mean gradient of opd; equal sides give none unless rest is truncate, whose sum just stops",
    differs="alpha and the clip are not stated in the sources that we read, nor whether the top k is renormalised: knobs",
)

METHODS = ((exopd, EXOPD), (reopold, REOPOLD), (eopd, EOPD))
"""The functions of this family with their cards."""
