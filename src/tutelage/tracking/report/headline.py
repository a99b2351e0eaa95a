"""The first thing that is read: what the run changed, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.tracking import wording
from tutelage.tracking.events import Interval
from tutelage.tracking.registry import Metric, describe
from tutelage.tracking.report import palette
from tutelage.tracking.report.markup import element, text
from tutelage.tracking.report.run import Run

_CHOICES = (
    ("eval/greedy_accuracy_fraction", "rollout/accuracy_fraction"),
    ("eval/avg_at_k_fraction",),
    ("eval/pass_at_k_fraction",),
    ("eval/reverse_kl_nats", "signal/reverse_kl_nats"),
    ("eval/forward_kl_nats", "signal/forward_kl_nats"),
    ("eval/teacher_text_forward_kl_nats",),
    ("eval/truncated_fraction", "rollout/truncated_fraction"),
    ("eval/mean_length_tokens", "rollout/length_tokens"),
)
"""What is worth a card; the first name that the run has measured is taken."""
_FADED = palette.RUNS[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Point:
    label: str
    value: float
    interval: Interval | None
    colour: str = palette.RUNS[0]
    strong: bool = False


def cards(runs: Sequence[Run], *, limit: int = 6) -> str:
    """A card per metric: before, after, and where the other runs ended."""
    main = runs[0]
    chosen = [next((name for name in names if main.measured(name)), None) for names in _CHOICES]
    names = [name for name in chosen if name is not None][:limit]
    if not names:
        return text("p", "The run has logged nothing yet.", class_="muted")
    found = [_card(describe(name), runs) for name in names]
    return text("p", _lead(names), class_="lead") + element("div", *found, class_="cards")


def _lead(names: Sequence[str]) -> str:
    held_out = [name.startswith("eval/") for name in names]
    if all(held_out):
        return "On held-out prompts, at the first and the last evaluation. Bars are 95 % intervals."
    if not any(held_out):
        return "Over the training steps: means of the first and of the last tenth. An evaluation would give intervals."
    return "On held-out prompts where they were evaluated; the others are means of the first and the last tenth of the steps."


def _card(metric: Metric, runs: Sequence[Run]) -> str:
    before, after = _ends(runs[0], metric)
    points = [after] if before is None else [before, after]
    points += [
        _Point(label=run.name, value=end.value, interval=end.interval, colour=palette.RUNS[place % len(palette.RUNS)])
        for place, run in enumerate(runs[1:], start=1)
        if run.series(metric.name).steps and (end := _ends(run, metric)[1])
    ]
    return element(
        "article",
        text("h3", metric.title),
        element("p", text("span", wording.value(metric, after.value)), _unit(metric), class_="big"),
        _verdict(metric, before, after),
        element("div", *(_row(metric, point, points) for point in points), class_="rows"),
        class_="card",
    )


def _ends(run: Run, metric: Metric) -> tuple[_Point | None, _Point]:
    """First and last evaluation, or the means over the first and the last tenth of the training steps."""
    series = run.series(metric.name)
    if metric.name.startswith("eval/"):
        labels = (
            "before" if series.steps[0] == 0 else f"step {series.steps[0]}",
            "after" if series.steps[-1] == run.steps else f"step {series.steps[-1]}",
        )
        values, intervals = (series.values[0], series.values[-1]), (series.intervals[0], series.intervals[-1])
    else:
        share = max(len(series.values) // 10, 1)
        labels, intervals = ("start", "end"), (None, None)
        values = (sum(series.values[:share]) / share, sum(series.values[-share:]) / share)
    first = _Point(label=labels[0], value=values[0], interval=intervals[0], colour=_FADED)
    last = _Point(label=labels[1], value=values[1], interval=intervals[1], strong=True)
    return (first if len(series.steps) > 1 else None), last


def _unit(metric: Metric) -> str:
    return text("small", f" {metric.unit}") if metric.unit not in ("", "fraction") else ""


def _verdict(metric: Metric, before: _Point | None, after: _Point) -> str:
    if before is None:
        return text("p", "measured once", class_="verdict muted")
    told = wording.change(metric, before.value, after.value)
    if metric.direction == "none" or after.value == before.value:
        return text("p", told, class_="verdict muted")
    if before.interval is None or after.interval is None:
        return text("p", f"{told}, without an interval", class_="verdict muted")
    if before.interval[0] <= after.interval[1] and after.interval[0] <= before.interval[1]:
        return text("p", f"{told}, the intervals overlap", class_="verdict muted")
    good = (after.value > before.value) == (metric.direction == "up")
    arrow = "\N{UPWARDS ARROW}" if after.value > before.value else "\N{DOWNWARDS ARROW}"
    return text("p", f"{arrow} {told}, {'better' if good else 'worse'}", class_=f"verdict {'good' if good else 'bad'}")


def _row(metric: Metric, point: _Point, points: Sequence[_Point]) -> str:
    ends = [end for other in points for end in (other.interval or (other.value, other.value))]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def place(number: float) -> float:
        return round(4.0 + 92.0 * (number - low) / span, 2)

    shown, between, bar = wording.value(metric, point.value), "", ""
    if point.interval is not None:
        left, right = place(point.interval[0]), place(point.interval[1])
        bar = element("i", style=f"left:{left}%;width:{max(right - left, 0.5):.2f}%")
        between = wording.interval(metric, point.interval)
    return element(
        "div",
        text("span", point.label, class_="label", title=point.label),
        element(
            "span",
            bar,
            element("b", style=f"left:{place(point.value)}%"),
            class_="track",
            style=f"color:{point.colour}",
            aria_hidden="true",
        ),
        text("span", shown, class_="number"),
        text("span", between, class_="range"),
        class_="row strong" if point.strong else "row",
    )
