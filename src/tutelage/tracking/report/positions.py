"""Where in a response student and teacher disagree, early and late in training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from tutelage.tracking.registry import describe
from tutelage.tracking.report import figures, palette
from tutelage.tracking.report.figures import Drawn
from tutelage.tracking.report.markup import escape, text
from tutelage.tracking.report.run import Run
from tutelage.tracking.rollout_table import read_token_values

_MOST_BINS = 48
_FEWEST_TOKENS = 8
"""A bin with fewer tokens is not drawn: its band would say nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Profile:
    position: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def token_divergence(path: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    """Position and divergence of every token of a table, in nats.

    Returns:
        Positions, values, and whether the values are the reverse KL; where the teacher gave too little for that they are
        `log pi_S - log pi_T` of the token itself.
    """
    position, values = read_token_values(path, "reverse_kl_nats")
    known = np.isfinite(values)
    if known.any():
        return position[known], values[known], True
    position, student = read_token_values(path, "student_log_probs")
    _, teacher = read_token_values(path, "teacher_log_probs")
    if student.shape != teacher.shape:
        return position[:0], student[:0], False
    known = np.isfinite(student - teacher)
    return position[known], (student - teacher)[known], False


def draw(runs: Sequence[Run], *, identifier: str) -> Drawn | None:
    """Mean and 90 % band by position, of the first and the last table; None where no table has divergences."""
    tables = runs[0].folder.rollout_files()
    ends = sorted({min(tables), max(tables)}) if tables else []
    measured = [(step, token_divergence(tables[step])) for step in ends]
    profiles = [(step, _profile(*values[:2])) for step, values in measured if len(values[0])]
    if not profiles:
        return None
    traces = [
        trace
        for (step, profile), colour in zip(profiles, (palette.RUNS[-1], palette.RUNS[0])[-len(profiles) :], strict=True)
        for trace in _traces(profile, f"step {step}", colour, "solid")
    ]
    for place, run in enumerate(runs[1:], start=1):
        traces += _other(run, place)
    last_position = max(profile.position[-1] for _, profile in profiles)
    figure = {"data": traces, "layout": _layout(last_position)}
    is_kl = any(values[2] for _, values in measured)
    html = figures.framed(identifier, "Divergence by position", "nats", _caption(is_kl))
    return Drawn(identifier=identifier, html=html, figure=figure)


def _layout(last: float) -> dict[str, Any]:
    layout = figures.layout(describe("signal/reverse_kl_nats"), x_title="position in the response, tokens", x_most=last + 1.0)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    return layout | {"height": 300, "showlegend": True, "legend": legend, "margin": {"l": 46, "r": 10, "t": 30, "b": 38}}


def _caption(is_kl: bool) -> str:
    what = (
        "Reverse KL of each token" if is_kl else "log pi_S - log pi_T of each token, because the teacher gave no distribution"
    )
    return " ".join(
        (
            text("b", figures.DIRECTIONS["down"]),
            escape(
                f"{what}: mean, and the band that holds 90 % of the tokens, for the first and the last table of rollouts. A "
                "curve that rises with the position tells of prefixes that the teacher would not have written itself."
            ),
        )
    )


def _other(run: Run, place: int) -> list[dict[str, Any]]:
    tables = run.folder.rollout_files()
    if not tables:
        return []
    position, values, _ = token_divergence(tables[max(tables)])
    if not len(position):
        return []
    profile = _profile(position, values)
    colour, dash = palette.RUNS[place % len(palette.RUNS)], palette.DASHES[place % len(palette.DASHES)]
    return [_mean(profile, f"{run.name}, step {max(tables)}", colour, dash)]


def _traces(profile: _Profile, name: str, colour: str, dash: str) -> list[dict[str, Any]]:
    return [*figures.band(profile.position, profile.low, profile.high, colour), _mean(profile, name, colour, dash)]


def _mean(profile: _Profile, name: str, colour: str, dash: str) -> dict[str, Any]:
    return go.Scatter(
        x=profile.position,
        y=profile.mean,
        mode="lines",
        line={"color": colour, "width": 2, "dash": dash},
        name=escape(name),
        hovertemplate="%{y:.3g}",
    ).to_plotly_json()


def _profile(position: np.ndarray, values: np.ndarray) -> _Profile:
    width = -(-int(position.max() + 1) // _MOST_BINS)
    order = np.argsort(position, kind="stable")
    bins, values = position[order] // width, values[order]
    numbers, starts = np.unique(bins, return_index=True)
    parts = np.split(values, starts[1:])
    fewest = min(_FEWEST_TOKENS, max(len(part) for part in parts))
    kept = [(number, part) for number, part in zip(numbers, parts, strict=True) if len(part) >= fewest]
    quantiles = [np.quantile(part, (0.05, 0.95)) for _, part in kept]
    return _Profile(
        position=[float(number * width + (width + 1) / 2) for number, _ in kept],
        mean=[float(part.mean()) for _, part in kept],
        low=[float(low) for low, _ in quantiles],
        high=[float(high) for _, high in quantiles],
    )
