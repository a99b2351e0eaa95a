"""Curves: one panel per question, one colour per run, training as a line and evaluations as points with their band."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from tutelage.tracking.registry import Metric, describe
from tutelage.tracking.report import palette
from tutelage.tracking.report.markup import element, escape, text
from tutelage.tracking.report.run import Run, Series

_MOST_POINTS = 600
"""Longer curves are averaged in buckets before they are drawn."""
_RAW_FROM = 30
"""Shorter curves are drawn as they are, longer ones as a running mean over the single steps."""
_LEAST_NOISE = 0.01
"""Mean distance from the running mean, as a share of the curve's range, below which the curve is drawn as it is."""
DIRECTIONS = {"up": "Higher is better.", "down": "Lower is better.", "none": "Neither direction is good in itself."}


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A question and the metrics that answer it."""

    title: str
    training: str = ""
    """Metric of the steps, drawn as a line."""
    held_out: str = ""
    """Metric of the evaluations, drawn as points."""
    reference: str = ""
    """Metric of the steps that the others are compared with, drawn as a grey line, of the first run only."""

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics."""
        return tuple(name for name in (self.training, self.held_out, self.reference) if name)


RESULTS = (
    Panel(title="Reverse KL", training="signal/reverse_kl_nats", held_out="eval/reverse_kl_nats"),
    Panel(title="Forward KL", training="signal/forward_kl_nats", held_out="eval/forward_kl_nats"),
    Panel(title="Accuracy", training="rollout/accuracy_fraction", held_out="eval/greedy_accuracy_fraction"),
    Panel(title="avg@k", held_out="eval/avg_at_k_fraction"),
    Panel(title="pass@k", held_out="eval/pass_at_k_fraction"),
    Panel(title="Forward KL on teacher text", held_out="eval/teacher_text_forward_kl_nats"),
    Panel(
        title="Entropy",
        training="signal/student_entropy_nats",
        held_out="eval/student_entropy_nats",
        reference="signal/teacher_entropy_nats",
    ),
    Panel(title="Length", training="rollout/length_tokens", held_out="eval/mean_length_tokens"),
    Panel(title="Truncated responses", training="rollout/truncated_fraction", held_out="eval/truncated_fraction"),
    Panel(title="Repetition", training="rollout/repetition_fraction", held_out="eval/repetition_fraction"),
)
"""Shown to everybody."""

_SHOWN_AT_ONCE = {name for panel in RESULTS for name in panel.names}


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A panel ready for the page."""

    identifier: str
    """Of the element that the plot is drawn into."""
    html: str
    figure: dict[str, Any]


def details(runs: Sequence[Run]) -> list[Panel]:
    """A panel for every further metric that the first run logged."""
    names = [name for name in runs[0].metrics if name not in _SHOWN_AT_ONCE]
    return [Panel(title=describe(name).title, training=name) for name in names]


def draw(panels: Sequence[Panel], runs: Sequence[Run], *, prefix: str) -> list[Drawn]:
    """Draw the panels that the first run has numbers for."""
    kept = [panel for panel in panels if any(runs[0].measured(name) for name in panel.names)]
    return [_draw(panel, runs, identifier=f"{prefix}-{place}") for place, panel in enumerate(kept)]


def framed(identifier: str, title: str, unit: str, caption: str) -> str:
    """Title, room for the plot, and what is to be seen in it; the caption is markup."""
    heading = element("h3", escape(title), text("small", f" {unit}") if unit else "")
    plot = element("div", class_="plot", id=identifier, role="img", aria_label=f"{title}, {unit}" if unit else title)
    return element("figure", heading, plot, element("figcaption", caption))


def layout(metric: Metric, *, x_title: str, x_most: float) -> dict[str, Any]:
    """Axes and margins; colours come from the page."""
    share = metric.unit == "fraction"
    numbers = {"tickformat": "~%"} if share else {"exponentformat": "e", "minexponent": 4}
    y_axis: dict[str, Any] = {"rangemode": "tozero", "nticks": 6, **numbers}
    if share and metric.direction == "up":
        y_axis |= {"range": [0.0, 1.02]}
    figure = go.Layout(
        height=250,
        margin={"l": 46, "r": 10, "t": 8, "b": 38},
        showlegend=False,
        hovermode="x unified",
        xaxis={
            "title": {"text": x_title, "standoff": 4, "font": {"size": 11}},
            "range": [-0.02 * x_most, 1.02 * x_most],
            "nticks": 7,
            "zeroline": False,
        },
        yaxis=y_axis | {"zeroline": False},
    )
    return figure.to_plotly_json()


def band(steps: Sequence[float | int], low: Sequence[float], high: Sequence[float], colour: str) -> list[dict[str, Any]]:
    """A filled band between two curves."""
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": palette.transparent(colour, 0.18)}
    return [
        go.Scatter(x=list(steps), y=list(low), **edge).to_plotly_json(),
        go.Scatter(x=list(steps), y=list(high), **edge, **fill).to_plotly_json(),
    ]


def _draw(panel: Panel, runs: Sequence[Run], *, identifier: str) -> Drawn:
    metrics = [describe(name) for name in panel.names]
    traces = [trace for place, run in enumerate(runs) for trace in _traces(panel, run, place)]
    most = max(run.steps for run in runs)
    figure = {"data": traces, "layout": layout(metrics[0], x_title="optimiser step", x_most=float(max(most, 1)))}
    unit = "" if metrics[0].unit in ("fraction", panel.title.lower()) else metrics[0].unit
    html = framed(identifier, panel.title, unit, _caption(panel, runs))
    return Drawn(identifier=identifier, html=html, figure=figure)


def _traces(panel: Panel, run: Run, place: int) -> Iterator[dict[str, Any]]:
    if panel.reference and place == 0 and (found := run.series(panel.reference)).steps:
        yield _line(_smooth(_thin(found)), palette.RUNS[-1], dash="dot", width=1.5, name=describe(panel.reference).title)
    colour = palette.RUNS[place % len(palette.RUNS)]
    if panel.training and (found := run.series(panel.training)).steps:
        single = _thin(found)
        mean = _smooth(single)
        if mean is not single:
            yield _line(single, palette.transparent(colour, 0.3), dash="solid", width=1.0, name="")
        yield _line(mean, colour, dash=palette.DASHES[place % len(palette.DASHES)], width=2.0, name=run.name)
    if panel.held_out and (found := run.series(panel.held_out)).steps:
        yield from _points(found, run, place)


def _line(series: Series, colour: str, *, dash: str, width: float, name: str) -> dict[str, Any]:
    return go.Scatter(
        x=list(series.steps),
        y=list(series.values),
        mode="lines" if len(series.steps) > 1 else "markers",
        line={"color": colour, "width": width, "dash": dash},
        marker={"color": colour, "size": 6},
        name=escape(name),
        hoverinfo=None if name else "skip",
        hovertemplate="%{y:.4g}" if name else None,
    ).to_plotly_json()


def _points(series: Series, run: Run, place: int) -> Iterator[dict[str, Any]]:
    colour = palette.RUNS[place % len(palette.RUNS)]
    known = [(step, *interval) for step, interval in zip(series.steps, series.intervals, strict=True) if interval is not None]
    if len(known) > 1:
        steps, low, high = zip(*known, strict=True)
        yield from band(steps, low, high, colour)
    error = {}
    if len(known) == 1:
        ((_, low, high),) = known
        error = {"error_y": {"array": [high - series.values[0]], "arrayminus": [series.values[0] - low], "color": colour}}
    yield go.Scatter(
        x=list(series.steps),
        y=list(series.values),
        mode="lines+markers",
        line={"color": colour, "width": 1.5, "dash": palette.DASHES[place % len(palette.DASHES)]},
        marker={"color": colour, "size": 7, "symbol": palette.SYMBOLS[place % len(palette.SYMBOLS)]},
        name=escape(f"{run.name}, held out"),
        hovertemplate="%{y:.4g}",
        **error,
    ).to_plotly_json()


def _caption(panel: Panel, runs: Sequence[Run]) -> str:
    marks = ((panel.training, "Line"), (panel.held_out, "Points"), (panel.reference, "Grey line"))
    drawn = {mark: describe(name) for name, mark in marks if name and any(run.series(name).steps for run in runs)}
    directions = dict.fromkeys(metric.direction for mark, metric in drawn.items() if mark != "Grey line")
    told = [text("b", DIRECTIONS[direction]) for direction in directions]
    same = "Line" in drawn and "Points" in drawn and drawn["Line"].title == drawn["Points"].title
    for mark, metric in drawn.items():
        if same and mark == "Points":
            told.append("Points: the same on held-out prompts.")
        elif len(drawn) == 1 or (same and mark == "Line"):
            told.append(escape(metric.meaning))
        else:
            told.append(escape(f"{mark}: {metric.meaning}"))
    return " ".join(told)


def _thin(series: Series) -> Series:
    """At most some hundred points, each the mean of a bucket of neighbours."""
    size = -(-len(series.steps) // _MOST_POINTS)
    if size == 1:
        return series
    starts = range(0, len(series.steps), size)
    buckets = [series.values[start : start + size] for start in starts]
    return Series(
        steps=tuple(series.steps[min(start + size // 2, len(series.steps) - 1)] for start in starts),
        values=tuple(sum(bucket) / len(bucket) for bucket in buckets),
        intervals=(None,) * len(buckets),
    )


def _smooth(series: Series) -> Series:
    """The mean over a window of a twentieth of the curve around each step, for curves that are long and noisy enough."""
    total = len(series.steps)
    if total <= _RAW_FROM:
        return series
    reach = max(total // 40, 1)
    windows = [series.values[max(place - reach, 0) : place + reach + 1] for place in range(total)]
    means = tuple(sum(window) / len(window) for window in windows)
    noise = sum(abs(value - mean) for value, mean in zip(series.values, means, strict=True)) / total
    if noise < _LEAST_NOISE * (max(series.values) - min(series.values)):
        return series  # a schedule has corners that a mean would round off
    return Series(steps=series.steps, values=means, intervals=(None,) * total)
