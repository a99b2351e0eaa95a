"""What a claim can be about: numbers read off a method's curve and its baseline's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError, nearest
from tutelage.lab.reproduction.curves import Curve

Unit = Literal["points", "tokens", "nats", "thousand tokens"]

REACH = 0.9
"""Share of the baseline's own gain that `tokens_to_reach` asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A number of a run, seen beside another run of the same seed."""

    name: str
    title: str
    unit: Unit
    """`points` are shares, shown as per cent."""
    meaning: str
    of: Callable[[Curve, Curve], float | None]
    """From a run's curve and the baseline's; None where the runs do not have it."""
    margin: float
    """How much worse still counts as no worse, in the metric's own unit (shares for points)."""

    def shown(self, value: float) -> str:
        """A value for people."""
        return f"{100 * value:.1f}" if self.unit == "points" else f"{value:.3g}"


def _matched(curve: Curve, other: Curve) -> float:
    return curve.accuracy_at(min(curve.end.tokens, other.end.tokens))


def _reached(curve: Curve, baseline: Curve) -> float:
    level = baseline.start.accuracy + REACH * (baseline.end.accuracy - baseline.start.accuracy)
    return min(curve.tokens_to(level), float(curve.end.tokens)) / 1000.0


_FIXED = (
    Metric(
        name="accuracy",
        title="accuracy",
        unit="points",
        meaning="greedy accuracy at the end, after equally many rollouts",
        of=lambda curve, _: curve.end.accuracy,
        margin=0.03,
    ),
    Metric(
        name="mean_accuracy",
        title="mean accuracy over the run",
        unit="points",
        meaning="greedy accuracy averaged over the run: what is learnt earlier counts more",
        of=lambda curve, _: curve.mean_accuracy(),
        margin=0.03,
    ),
    Metric(
        name="accuracy_at_tokens",
        title="accuracy at equal tokens",
        unit="points",
        meaning="greedy accuracy where both have written as many tokens as the shorter of the two runs",
        of=_matched,
        margin=0.03,
    ),
    Metric(
        name="tokens_to_reach",
        title="tokens to reach the baseline",
        unit="thousand tokens",
        meaning=f"tokens written until {REACH:.0%} of the baseline's gain is reached; all of the run's where it never is",
        of=_reached,
        margin=0.0,
    ),
    Metric(
        name="coverage",
        title="coverage",
        unit="points",
        meaning="pass@8 of sampled responses at the end",
        of=lambda curve, _: curve.end.coverage,
        margin=0.03,
    ),
    Metric(
        name="length",
        title="length",
        unit="tokens",
        meaning="mean length of sampled responses at the end",
        of=lambda curve, _: curve.end.length,
        margin=1.0,
    ),
    Metric(
        name="entropy",
        title="entropy",
        unit="nats",
        meaning="entropy of the student on its own sampled responses at the end",
        of=lambda curve, _: curve.end.entropy,
        margin=0.02,
    ),
    Metric(
        name="reverse_kl",
        title="reverse KL",
        unit="nats",
        meaning="KL(student || the task's teacher) on the student's own responses at the end",
        of=lambda curve, _: curve.end.reverse_kl,
        margin=0.02,
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _FIXED}
"""By name; `slice:NAME` is the accuracy on one class of problems and `worst_slice` that on the worst."""


def metric_of(name: str) -> Metric:
    """The metric of that name.

    Raises:
        ConfigError: There is none.
    """
    if name == "worst_slice":
        return _slice("worst_slice", "accuracy on the worst class", lambda slices: min(slices.values(), default=None))
    kind, _, label = name.partition(":")
    if kind == "slice" and label:
        return _slice(name, f"accuracy on {label}", lambda slices: slices.get(label))
    if name not in METRICS:
        known = [*METRICS, "worst_slice", "slice:NAME"]
        raise ConfigError(f"There is no metric {name!r}{nearest(name, known)}. Metrics: {', '.join(known)}.")
    return METRICS[name]


def _slice(name: str, title: str, read: Callable[[Mapping[str, float]], float | None]) -> Metric:
    return Metric(
        name=name,
        title=title,
        unit="points",
        meaning="greedy accuracy at the end, over one class of problems",
        of=lambda curve, _: read(curve.end.slices),
        margin=0.03,
    )
