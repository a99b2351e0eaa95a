"""From responses and verdicts to named numbers with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.diagnostics import repetition_fraction
from tutelage.evaluation.metrics import Interval, average_at_k, bootstrap_interval, pass_at_k, wilson_interval
from tutelage.types import Rollout, StepBatch, Verdict


@runtime_checkable
class Measurement(Protocol):
    """Per-token statistics of some responses, in nats."""

    @property
    def batch(self) -> StepBatch:
        """The tokens that could be measured."""
        ...

    @property
    def statistics(self) -> Mapping[str, Float[Tensor, " row"]]:
        """Name, such as `reverse_kl_nats` -> one value per token, NaN where it is not known."""
        ...


Score = Callable[[Sequence[Rollout]], Measurement]
"""Measures the student against its teacher on given responses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptValues:
    """What a mean over prompts is made of."""

    groups: tuple[int, ...]
    """Which prompt each value belongs to."""
    values: tuple[float, ...]
    weights: tuple[float, ...]
    """Of each value in the mean, for example its number of tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Named numbers, an interval of 95 % for each that has one, and the prompts' values that they are means of."""

    metrics: dict[str, float] = field(default_factory=dict[str, float])
    intervals: dict[str, Interval] = field(default_factory=dict[str, Interval])
    prompts: dict[str, PromptValues] = field(default_factory=dict[str, PromptValues])

    def __or__(self, other: "Summary") -> "Summary":
        return Summary(
            metrics=self.metrics | other.metrics,
            intervals=self.intervals | other.intervals,
            prompts=self.prompts | other.prompts,
        )


def mean_over_prompts(
    name: str,
    values: Sequence[float],
    *,
    groups: Sequence[int] | None = None,
    weights: Sequence[float] | None = None,
    seed: int = 0,
) -> Summary:
    """A mean with its interval; empty where there is no value. `groups` says whose values they are, the first ones' by default.

    Values that are all 0 or 1 and count alike are trials: their interval is Wilson's, which stays honest where all are
    equal. All others are resampled.
    """
    if not values:
        return Summary()
    if weights is None and all(value in (0.0, 1.0) for value in values):
        interval = wilson_interval(int(sum(values)), len(values))
    else:
        interval = bootstrap_interval(values, weights=weights, seed=seed)
    counts = [1.0] * len(values) if weights is None else weights
    mean = sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)
    whose = range(len(values)) if groups is None else groups
    made_of = PromptValues(groups=tuple(whose), values=tuple(values), weights=tuple(counts))
    return Summary(metrics={name: mean}, intervals={name: interval}, prompts={name: made_of})


def accuracy(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], *, k: int | None, seed: int) -> Summary:
    """Accuracy over the prompts that the verifier applies to.

    Args:
        rollouts: Their `group` says which belong to one prompt.
        verdicts: One per rollout.
        k: Of pass@k; None means that each prompt has one greedy response.
        seed: Of the resampling.
    """
    counts = {group: (len(marks), sum(marks)) for group, marks in _judged(rollouts, verdicts).items()}
    shares = [average_at_k(samples, correct) for samples, correct in counts.values()]
    if k is None:
        return mean_over_prompts("eval/greedy_accuracy_fraction", shares, groups=list(counts), seed=seed)
    passes = {group: pass_at_k(samples, correct, k) for group, (samples, correct) in counts.items() if samples >= k}
    return mean_over_prompts("eval/avg_at_k_fraction", shares, groups=list(counts), seed=seed) | mean_over_prompts(
        "eval/pass_at_k_fraction", list(passes.values()), groups=list(passes), seed=seed
    )


def description(rollouts: Sequence[Rollout], *, seed: int) -> Summary:
    """What the responses look like: length, cuts, repetition. Most collapses show here first."""
    traits = {
        "eval/mean_length_tokens": [float(len(rollout.response_ids)) for rollout in rollouts],
        "eval/truncated_fraction": [float(rollout.finish == "length") for rollout in rollouts],
        "eval/repetition_fraction": [repetition_fraction(rollout.response_ids.tolist()) for rollout in rollouts],
    }
    found = Summary()
    for name, values in traits.items():
        means = _per_prompt(rollouts, values)
        found |= mean_over_prompts(name, list(means.values()), groups=list(means), seed=seed)
    return found


def token_mean(name: str, measurement: Measurement, statistic: str, *, seed: int) -> Summary:
    """Mean of a statistic over all tokens for which it is known; whole prompts are resampled for its interval."""
    values = measurement.statistics[statistic].detach().double().cpu()
    groups = torch.tensor([rollout.group for rollout in measurement.batch.rollouts])[measurement.batch.rollout.cpu()]
    known = ~values.isnan()
    prompts, inverse = groups[known].unique(return_inverse=True)
    counts = torch.bincount(inverse, minlength=len(prompts)).double()
    sums = torch.zeros(len(prompts), dtype=torch.float64).index_add_(0, inverse, values[known])
    means = (sums / counts).tolist()
    return mean_over_prompts(name, means, groups=prompts.tolist(), weights=counts.tolist(), seed=seed)


def _judged(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]) -> dict[int, list[bool]]:
    marks: dict[int, list[bool]] = {}
    for rollout, said in zip(rollouts, verdicts, strict=True):
        if said.correct is not None:
            marks.setdefault(rollout.group, []).append(said.correct)
    return marks


def _per_prompt(rollouts: Sequence[Rollout], values: Sequence[float]) -> dict[int, float]:
    groups: dict[int, list[float]] = {}
    for rollout, value in zip(rollouts, values, strict=True):
        groups.setdefault(rollout.group, []).append(value)
    return {group: sum(found) / len(found) for group, found in groups.items()}
