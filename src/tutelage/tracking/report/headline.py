"""The first thing that is read: what the run changed, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.tracking import wording
from tutelage.tracking.events import Interval
from tutelage.tracking.registry import Metric, describe
from tutelage.tracking.report.markup import element, text
from tutelage.tracking.report.run import Run, Series

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Point:
    label: str
    value: float
    interval: Interval | None


def cards(runs: Sequence[Run], *, limit: int = 6) -> str:
    """A card per metric: before, after, and where the other runs ended."""
    main = runs[0]
    chosen = [next((name for name in names if main.series(name).steps), None) for names in _CHOICES]
    found = [_card(describe(name), runs) for name in chosen if name is not None][:limit]
    return element("div", *found, class_="cards") if found else text("p", "The run has logged nothing yet.", class_="muted")


def _card(metric: Metric, runs: Sequence[Run]) -> str:
    series = runs[0].series(metric.name)
    before, after = _ends(series, metric)
    points = [after] if before is None else [before, after]
    points += [
        _Point(label=run.name, value=end.value, interval=end.interval)
        for run in runs[1:]
        if (other := run.series(metric.name)).steps and (end := _ends(other, metric)[1])
    ]
    rows = [_row(metric, point, points) for point in points]
    origin = "held-out prompts" if metric.name.startswith("eval/") else "training steps"
    return element(
        "article",
        text("h3", metric.title),
        element("p", text("span", wording.value(metric, after.value)), _unit(metric), class_="big"),
        _verdict(metric, before, after),
        element("div", *rows, class_="rows"),
        text("p", origin, class_="origin"),
        class_="card",
    )


def _ends(series: Series, metric: Metric) -> tuple[_Point | None, _Point]:
    """First and last evaluation, or the means over the first and the last tenth of the training steps."""
    total = len(series.steps)
    if metric.name.startswith("eval/"):
        first, last = (
            _Point(label=label, value=series.values[place], interval=series.intervals[place])
            for label, place in (("before", 0), ("after", -1))
        )
    else:
        share = max(total // 10, 1)
        first, last = (
            _Point(label=label, value=sum(part) / len(part), interval=None)
            for label, part in (("start", series.values[:share]), ("end", series.values[-share:]))
        )
    return (first if total > 1 else None), last


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

    bar = ""
    shown = wording.value(metric, point.value)
    if point.interval is not None:
        left, right = place(point.interval[0]), place(point.interval[1])
        bar = element("i", style=f"left:{left}%;width:{max(right - left, 0.5):.2f}%")
        shown_interval = " to ".join(wording.value(metric, end) for end in point.interval)
        title = f"{point.label}: {shown}, 95 % interval {shown_interval}"
    else:
        title = f"{point.label}: {shown}"
    track = element(
        "span", bar, element("b", style=f"left:{place(point.value)}%"), class_="track", role="img", aria_label=title
    )
    label = text("span", point.label, class_="label")
    return element("div", label, track, text("span", shown, class_="number"), class_=f"row {_tone(point)}", title=title)


def _tone(point: _Point) -> str:
    return "faded" if point.label in ("before", "start") else "strong" if point.label in ("after", "end") else "other"
