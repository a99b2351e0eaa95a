"""Every metric that a run may log: name, title, unit, direction and meaning. There is no other list of names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal

from tutelage.errors import ConfigError

Direction = Literal["up", "down", "none"]
"""Which way is good; `none` where neither is good in itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """What a number in `metrics.jsonl` is."""

    name: str
    """`<family>/<what>_<unit>`; a `*` stands for a name of the run's own, such as a term's."""
    title: str
    """For headings."""
    unit: str
    """Empty where the number has none."""
    direction: Direction
    """Which way is good."""
    meaning: str
    """One or two sentences for somebody who sees the number for the first time."""


def _family(prefix: str, *rows: tuple[str, str, str, Direction, str]) -> tuple[Metric, ...]:
    return tuple(
        Metric(name=f"{prefix}/{what}", title=title, unit=unit, direction=direction, meaning=meaning)
        for what, title, unit, direction, meaning in rows
    )


_SIGNAL = _family(
    "signal",
    (
        "reverse_kl_nats",
        "Reverse KL",
        "nats",
        "down",
        "KL(student || teacher), mean over the tokens of the step. Large where the student writes what the teacher would not.",
    ),
    (
        "forward_kl_nats",
        "Forward KL",
        "nats",
        "down",
        "KL(teacher || student), mean over the tokens of the step. Large where the student misses what the teacher writes.",
    ),
    (
        "forward_kl_lower_nats",
        "Forward KL, at least",
        "nats",
        "down",
        "The smallest KL(teacher || student) that a teacher of which only the likeliest entries are known can have, mean over "
        "tokens.",
    ),
    (
        "forward_kl_error_nats",
        "Forward KL, error",
        "nats",
        "down",
        "By how much KL(teacher || student) can be larger than that at most, mean over tokens; proved, not estimated. It falls "
        "with the number of entries that the server gives.",
    ),
    (
        "student_entropy_nats",
        "Student entropy",
        "nats",
        "none",
        "Entropy of the student's next-token distribution, mean over tokens. It should come near the teacher's; near zero the "
        "student has stopped exploring.",
    ),
    (
        "teacher_entropy_nats",
        "Teacher entropy",
        "nats",
        "none",
        "Entropy of the teacher's next-token distribution on the same tokens. Large values: the teacher is unsure there.",
    ),
    (
        "log_ratio_nats",
        "Log-ratio",
        "nats",
        "up",
        "log pi_T - log pi_S of the tokens that were written, mean. On the student's own tokens it is an estimate of minus the "
        "reverse KL and rises towards zero.",
    ),
    (
        "sampler_gap_nats",
        "Sampler gap",
        "nats",
        "down",
        "Mean distance between the log-probabilities that the sampler and the trainer give to the same student tokens. "
        "Divergences below this gap are noise.",
    ),
)

_TRAIN = _family(
    "train",
    (
        "loss_nats",
        "Loss",
        "nats",
        "none",
        "Sum of the recipe's terms. Comparable within one recipe only: the value of a score-function term measures nothing.",
    ),
    ("gradient_norm", "Gradient norm", "", "none", "Global norm of the gradient before clipping."),
    (
        "gradient_clipped_fraction",
        "Clipped steps",
        "fraction",
        "none",
        "1 where the gradient was clipped in this step, else 0.",
    ),
    ("learning_rate", "Learning rate", "", "none", "Step size of the optimiser after warm-up and decay."),
    ("tokens", "Tokens", "tokens", "none", "Response tokens written in this step."),
    (
        "rows",
        "Rows",
        "tokens",
        "none",
        "Tokens that carried supervision in this step. Fewer than were written: some rollouts could not be taught.",
    ),
    ("tokens_per_second", "Throughput", "tokens per second", "up", "Response tokens of the step over its whole wall time."),
    ("seconds_per_step", "Time per step", "seconds", "down", "Wall time of the whole step."),
    (
        "skipped_rollouts_fraction",
        "Skipped rollouts",
        "fraction",
        "down",
        "Share of the rollouts that taught nothing, for example because their privileged context was missing.",
    ),
)

_TIME = _family(
    "time",
    ("sampling_seconds", "Sampling", "seconds", "down", "Wall time of writing the step's rollouts."),
    ("judging_seconds", "Judging", "seconds", "down", "Wall time of the verifier."),
    ("scoring_seconds", "Scoring", "seconds", "down", "Wall time of the teacher."),
    ("update_seconds", "Update", "seconds", "down", "Wall time of loss, gradient and optimiser."),
    ("control_seconds", "Control", "seconds", "down", "Wall time of what controllers probe and try."),
    ("evaluation_seconds", "Evaluation", "seconds", "down", "Wall time of one evaluation."),
)

_ROLLOUT = _family(
    "rollout",
    (
        "length_tokens",
        "Length",
        "tokens",
        "none",
        "Mean length of the step's responses. A steady climb often precedes a collapse.",
    ),
    (
        "length_p95_tokens",
        "Length, 95th percentile",
        "tokens",
        "none",
        "One response in twenty is at least this long. It moves before the mean does.",
    ),
    (
        "truncated_fraction",
        "Truncated",
        "fraction",
        "down",
        "Share of responses that were cut at the token limit instead of ending by themselves.",
    ),
    (
        "repetition_fraction",
        "Repetition",
        "fraction",
        "down",
        "Share of 4-grams that already occurred in the same response. Teachers tend to agree with loops, so the divergence "
        "does not show them.",
    ),
    (
        "accuracy_fraction",
        "Training accuracy",
        "fraction",
        "up",
        "Share of the step's responses, whoever wrote them, that the verifier calls right.",
    ),
    ("reward", "Reward", "", "up", "Mean reward of the step's responses, over those that the verifier applies to."),
    (
        "staleness_mean_steps",
        "Staleness",
        "steps",
        "none",
        "Optimiser steps between the student that wrote a response and the one that is trained on it, mean over responses.",
    ),
    ("staleness_max_steps", "Largest staleness", "steps", "none", "The same of the oldest response of the step."),
)

_PIPELINE = _family(
    "pipeline",
    (
        "rollout_seconds",
        "Waiting for responses",
        "seconds",
        "down",
        "Training stood still until the step's responses were written. Large values: writing is the slowest stage, or the "
        "staleness is too small to hide it.",
    ),
    (
        "teacher_seconds",
        "Waiting for the teacher",
        "seconds",
        "down",
        "After that, training stood still until they were judged and scored. Large values: the teacher is the slowest stage.",
    ),
    (
        "update_seconds",
        "Waiting for an update",
        "seconds",
        "none",
        "The writer stood still until the student was new enough to write the step's responses. Large values: training or the "
        "teacher is the slowest stage.",
    ),
    (
        "queue_steps",
        "Queue",
        "steps",
        "none",
        "Later steps whose responses lay ready when training asked for this one's.",
    ),
)

_TERM = _family(
    "term",
    ("*/loss_nats", "Loss", "nats", "none", "This term's share of the loss, scale included."),
    (
        "*/weight_fraction",
        "Weight",
        "fraction",
        "none",
        "Mean token weight of this term over the tokens that it acts on. At zero the term is switched off.",
    ),
)

_CONTEXT = _family(
    "context",
    (
        "injected_fraction",
        "Context injected",
        "fraction",
        "up",
        "Share of rollouts whose teacher really read the privileged context. At zero it knows no more than the student does.",
    ),
)

_CONTROL = _family(
    "control",
    (
        "window_tokens",
        "Window",
        "tokens",
        "none",
        "Tokens of a response that the step wrote and taught.",
    ),
    (
        "alignment",
        "Alignment of the window",
        "",
        "none",
        "Cosine between the gradient on the window and the gradient on whole responses, at this step's probe.",
    ),
    (
        "extrapolations_accepted",
        "Extrapolations accepted",
        "",
        "none",
        "Steps beyond the weights, in the direction that they had taken, that raised the training reward.",
    ),
    (
        "extrapolation_reward",
        "Reward after extrapolation",
        "",
        "up",
        "Mean reward of the greedy responses to the training prompts that decide about extrapolated steps.",
    ),
)

_SERVING = _family(
    "serving",
    (
        "sync_gap_nats",
        "Server and trainer",
        "nats",
        "down",
        "Mean distance between the log-probabilities that the served student and the trainer give to the same few tokens, just "
        "after the server got the trainer's weights; the largest since the step before. Divergences below it are noise.",
    ),
    (
        "sync_seconds",
        "Handing over weights",
        "seconds",
        "down",
        "Wall time of giving the served student new weights since the step before, those for evaluations included.",
    ),
    (
        "teacher_gap_nats",
        "Answers of the teacher",
        "nats",
        "down",
        "Largest mean distance so far between two answers of the served teacher about the same few tokens.",
    ),
    ("judge_requests", "Answers of the judge", "", "none", "Answers of the judge since the run began, kept ones included."),
    (
        "judge_prompt_tokens",
        "Read by the judge",
        "tokens",
        "down",
        "Tokens that the judge has read since the run began; what a recording answers costs none.",
    ),
    (
        "judge_written_tokens",
        "Written by the judge",
        "tokens",
        "down",
        "Tokens that the judge has written since the run began.",
    ),
    ("judge_cost", "Cost of the judge", "", "down", "What they cost by the prices that were given, in the same currency."),
)

_CACHE = _family(
    "cache",
    (
        "found_fraction",
        "Found in the score cache",
        "fraction",
        "up",
        "Share of the step's responses whose scores had been kept before, by this run or another; over all teachers behind the "
        "cache.",
    ),
    (
        "asked_responses",
        "Asked of the teacher",
        "responses",
        "down",
        "Responses of the step that a teacher behind the cache was asked about. One that comes twice in a step is asked about "
        "once.",
    ),
)

_EVAL = _family(
    "eval",
    (
        "greedy_accuracy_fraction",
        "Greedy accuracy",
        "fraction",
        "up",
        "Share of held-out prompts that the student answers right when it always takes its likeliest token.",
    ),
    ("avg_at_k_fraction", "avg@k", "fraction", "up", "Share of right answers among k samples per held-out prompt."),
    (
        "pass_at_k_fraction",
        "pass@k",
        "fraction",
        "up",
        "Chance that at least one of k samples is right (unbiased estimate). It falls when the student loses diversity.",
    ),
    ("mean_length_tokens", "Length", "tokens", "none", "Mean length of the responses to held-out prompts."),
    (
        "truncated_fraction",
        "Truncated",
        "fraction",
        "down",
        "Share of responses to held-out prompts that were cut at the token limit.",
    ),
    (
        "repetition_fraction",
        "Repetition",
        "fraction",
        "down",
        "Share of 4-grams that already occurred in the same response, on held-out prompts.",
    ),
    (
        "student_entropy_nats",
        "Student entropy",
        "nats",
        "none",
        "Entropy of the student's next-token distribution on its responses to held-out prompts.",
    ),
    (
        "reverse_kl_nats",
        "Reverse KL",
        "nats",
        "down",
        "KL(student || teacher) per token of the student's own responses to held-out prompts.",
    ),
    (
        "forward_kl_nats",
        "Forward KL",
        "nats",
        "down",
        "KL(teacher || student) per token of the student's own responses to held-out prompts.",
    ),
    (
        "teacher_text_forward_kl_nats",
        "Forward KL on teacher text",
        "nats",
        "down",
        "KL(teacher || student) per token of held-out text that the teacher wrote: what the student would miss of it.",
    ),
)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (*_EVAL, *_SIGNAL, *_ROLLOUT, *_TERM, *_CONTEXT, *_CONTROL, *_SERVING, *_CACHE, *_TRAIN, *_TIME, *_PIPELINE)
}
"""By name, in the order of the documentation."""

FAMILIES: dict[str, str] = {
    "eval": "Measured on held-out prompts",
    "signal": "What the teacher says about the tokens of a step",
    "rollout": "What the responses of a step look like",
    "term": "The terms of the objective, one by one",
    "context": "Privileged context",
    "control": "Rules that move a setting or the weights",
    "serving": "Models behind a server",
    "cache": "Scores that were kept",
    "train": "The optimiser step",
    "time": "Where the time goes",
    "pipeline": "Who waits for whom, where writing, scoring and training work at the same time",
}
"""What the metrics of a family have in common."""


@lru_cache(maxsize=1024)
def describe(name: str) -> Metric:
    """The entry of a metric; a name that matches a pattern gets an entry of its own, titled after the part it names.

    Raises:
        ConfigError: Nothing of that name is declared.
    """
    if name in METRICS and "*" not in name:
        return METRICS[name]
    for pattern, metric in METRICS.items():
        if "*" in pattern and (match := re.fullmatch(re.escape(pattern).replace(r"\*", r"([^/*]+)"), name)):
            return replace(metric, name=name, title=f"{metric.title} of {match[1]}")
    nearest = get_close_matches(name, METRICS, n=1, cutoff=0.0)[0]
    raise ConfigError(
        f"There is no metric {name!r}; the nearest is {nearest!r}. A number without a declared unit, direction and meaning "
        "cannot be read by others: add it to METRICS in tutelage/tracking/registry.py, or use a declared name."
    )


def check(names: Iterable[str]) -> None:
    """Refuse names that are not declared.

    Raises:
        ConfigError: Names the first unknown one and the nearest declared one.
    """
    for name in names:
        describe(name)
