"""Methods that write only the part of a response where the teacher can still be trusted."""

from dataclasses import replace

from tutelage.controllers import AlignedWindow
from tutelage.objectives import ReverseKL, Term, TopK
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.white_box import opd
from tutelage.rollouts.sources import Sampling, StudentRollouts, WatchedRollouts
from tutelage.teachers.parts import ModelTeacher
from tutelage.types.schedules import Controlled

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


def adwin(
    teacher: str = "",
    *,
    first: int = 512,
    every: int = 20,
    probe: int = 8,
    low: float = 0.7,
    high: float = 0.95,
    growth: float = 1.5,
    n: int = 4,
    max_new_tokens: int = 256,
) -> Recipe:
    """Adaptive window: opd on the first tokens of a response, as many as point where the whole response points.

    Reference: arXiv:2605.28396.
    """
    sampling, window = Sampling(n=n, max_new_tokens=max_new_tokens), Controlled(name="horizon", start=float(first))
    return replace(
        opd(teacher),
        name="adwin",
        rollouts=StudentRollouts(sampling=sampling, horizon=window),
        controllers={"window": AlignedWindow(every=every, responses=probe, low=low, high=high, growth=growth)},
    )


ADWIN = Card(
    title="Adaptive windows",
    paper="2605.28396",
    equation="opd on t <= h;  h <- h u where cos(g_h, g_full) < low,  h <- h / u where it is > high",
    summary=(
        "The student writes a window of the first h tokens and learns from the sampled log-ratio there. Every so many steps "
        "a few whole responses show whether the window's gradient still points where the whole gradient points; the window "
        "widens where it does not and narrows where it does."
    ),
    knobs=(
        Knob(name="first", default="512", meaning="the window before the first probe, in tokens"),
        Knob(name="every", default="20", meaning="optimiser steps between probes"),
        Knob(name="probe", default="8", meaning="whole responses of a probe"),
        Knob(name="low", default="0.7", meaning="averaged cosine below which the window grows"),
        Knob(name="high", default="0.95", meaning="averaged cosine above which it shrinks"),
        Knob(name="growth", default="1.5", meaning="factor of either"),
        Knob(name="n", default="4", meaning="responses per prompt"),
        _LENGTH,
    ),
    settings="up to 4.1 times cheaper from end to end",
    exact_check="a window beyond the longest response is opd and its alignment is 1; an alignment of 1 never widens it",
    differs=(
        "the paper's thresholds, factors and probe sizes are not in the sources that we read: they are knobs. Probes are taken "
        "between two steps, not beside them; the average forgets what was measured of another window"
    ),
)


def kat(
    teacher: str = "",
    *,
    window: int = 64,
    count: int | None = 4,
    share: float = 0.3,
    grace: int = 0,
    buffer: int = 4096,
    min_fill: int = 512,
    warmup_steps: int = 50,
    k: int = 64,
    top_p: float = 0.95,
    n: int = 1,
    max_new_tokens: int = 256,
) -> Recipe:
    """The KL agreement trap: a response ends where the teacher has agreed for too long, and is cut back to where that began.

    Reference: arXiv:2606.09471.
    """
    return Recipe(
        name="kat",
        rollouts=WatchedRollouts(
            sampling=Sampling(n=n, top_p=top_p, max_new_tokens=max_new_tokens),
            window=window,
            entries=k,
            buffer=buffer,
            min_fill=min_fill,
            warmup_steps=warmup_steps,
            count=count,
            share=share,
            grace=grace,
        ),
        teacher=ModelTeacher(model=teacher),
        terms=(Term(name="divergence", signal=ReverseKL(support=TopK(k=k, chosen_by="student"))),),
    )


KAT = Card(
    title="Escaping the KL agreement trap",
    paper="2606.09471",
    equation=(
        "mean_{t < cut} KL_{K}(pi_S || pi_T)(s_t);  cut: c windows in a row with mean KL < s,  "
        "s = quantile_{1 - eta} of the least windows of earlier responses"
    ),
    summary=(
        "On a lost prefix the teacher agrees with whatever comes next, so nothing is corrected there. The teacher reads along, "
        "and a response that has agreed with it for too long ends and loses that part."
    ),
    knobs=(
        Knob(name="window", default="64", meaning="tokens in the running mean (W)"),
        Knob(name="count", default="4", meaning="low windows in a row that end a response (c); None never ends one"),
        Knob(name="share", default="0.3", meaning="eta: the threshold is the quantile 1 - eta of the remembered minima"),
        Knob(name="grace", default="0", meaning="so many windows after the first never count, and neither does the first"),
        Knob(name="buffer", default="4096", meaning="responses whose least window is remembered"),
        Knob(name="min_fill", default="512", meaning="remembered responses below which nothing is ended"),
        Knob(name="warmup_steps", default="50", meaning="steps before which nothing is ended"),
        Knob(name="k", default="64", meaning="student's likeliest entries, in the loss and in the running mean"),
        Knob(name="top_p", default="0.95", meaning="of the sampling"),
        Knob(name="n", default="1", meaning="responses per prompt"),
        _LENGTH,
    ),
    settings="temperature 1; responses shrank from 1,480 to 596 tokens and the GPU hours to less than a half",
    exact_check=(
        "no count, or nothing remembered, gives the student's own rollouts; divergences above the threshold never end one; "
        "the cut lies at most at the trigger - W - c + 2"
    ),
    differs=(
        "reconstructed: the grace depends on the model's size in the paper and is a knob here; the threshold is read as the "
        "quantile 1 - eta, so that eta = 1 ends almost nothing; the text of the paper also uses eta = 0.1"
    ),
)

METHODS = ((esr, ESR), (adwin, ADWIN), (kat, KAT))
"""The functions of this family with their cards."""
