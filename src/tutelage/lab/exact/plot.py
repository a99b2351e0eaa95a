"""Bias against variance as a page of its own."""

from pathlib import Path

import plotly.graph_objects as go

from tutelage.errors import ConfigError
from tutelage.lab.exact.comparison import Comparison


def plot(found: Comparison, path: Path) -> None:
    """Write an HTML file that needs nothing else: one point per recipe.

    Raises:
        ConfigError: The file's name does not end in .html.
    """
    if path.suffix != ".html":
        raise ConfigError(f"The plot is written as HTML, and {path.name!r} does not end in .html. Give such a name.")
    figure = go.Figure(
        layout={
            "title": f"Reverse KL {found.value:.3f} nats per token, vocabulary {found.size.vocab}, length {found.size.length}",
            "xaxis": {"title": "variance of the gradient, relative to opd"},
            "yaxis": {"title": "bias against the sequence-level gradient, relative", "rangemode": "tozero"},
            "template": "plotly_white",
        }
    )
    for row in found.rows:
        figure.add_scatter(
            x=[row.relative_variance],
            y=[row.sequence_bias.relative],
            mode="markers+text",
            text=[row.recipe],
            textposition="top center",
            name=f"{row.recipe}: bias against the per-token gradient {row.token_bias.relative:.3g}",
        )
    figure.write_html(path, include_plotlyjs=True)
