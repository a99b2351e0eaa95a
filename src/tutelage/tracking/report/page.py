"""The page: sections in the order in which somebody asks for them, styles, scripts, and nothing fetched from elsewhere."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from plotly.offline import get_plotlyjs

from tutelage.tracking.report import figures, headline, palette, positions, settings, tokens
from tutelage.tracking.report.figures import Drawn
from tutelage.tracking.report.markup import element, embedded_json, escape, text
from tutelage.tracking.report.run import Run


def page(runs: Sequence[Run]) -> str:
    """The report of the first run; the others are drawn beside it."""
    main = runs[0]
    results = figures.draw(figures.RESULTS, runs, prefix="result")
    details = figures.draw(figures.details(runs), runs, prefix="detail")
    by_position = positions.draw(runs, identifier="position")
    drawn = [*results, *details, *([by_position] if by_position else [])]
    rollouts = tokens.section(main)
    differing = settings.differences(runs)
    sections = [
        section("result", "Result", headline.cards(runs)),
        section("curves", "Curves", legend(runs) + grid(results)) if results else "",
        section("position", "Where they disagree", by_position.html) if by_position else "",
        section("rollouts", "Rollouts, token by token", rollouts) if rollouts else "",
        section("differences", "How the runs differ", differing) if differing else "",
        section("run", "The run", _folded(details) + settings.configuration(main)),
    ]
    body = element("main", _header(runs), settings.notice(main), *sections)
    return document(main.name, body, drawn)


def _header(runs: Sequence[Run]) -> str:
    main = runs[0]
    others = ", ".join(run.name for run in runs[1:])
    beside = text("p", f"beside {others}", class_="muted") if others else ""
    return element("header", text("p", "Tutelage report", class_="kicker"), text("h1", main.name), beside, settings.facts(main))


def section(identifier: str, title: str, content: str) -> str:
    """A titled part of a page; the content is markup."""
    return element("section", text("h2", title), content, id=f"section-{identifier}")


def grid(drawn: Sequence[Drawn]) -> str:
    """Plots side by side."""
    return element("div", *(panel.html for panel in drawn), class_="grid")


def _folded(drawn: Sequence[Drawn]) -> str:
    if not drawn:
        return ""
    summary = element("summary", "Optimisation, timing and terms", text("small", f" {len(drawn)} plots"))
    return element("details", summary, grid(drawn))


def legend(runs: Sequence[Run]) -> str:
    """Which line is which run, and what lines and points are."""
    items = []
    for place, run in enumerate(runs):
        colour, dash = palette.RUNS[place % len(palette.RUNS)], ("", "6 4", "2 3", "6 3 2 3", "9 4", "9 3 2 3")[place % 6]
        line = element("line", x1="0", y1="6", x2="26", y2="6", stroke=colour, stroke_width="2.5", stroke_dasharray=dash)
        items.append(element("span", element("svg", line, width="26", height="12", aria_hidden="true"), " ", escape(run.name)))
    told = "Lines: training steps (faint: single steps). Points: evaluations, with their 95 % interval as a band."
    return element("div", *(items if len(runs) > 1 else []), text("span", told, class_="muted"), class_="legend")


def document(title: str, body: str, drawn: Sequence[Drawn]) -> str:
    """A whole page with its styles, scripts and figures."""
    here = files("tutelage.tracking.report")
    style = (here / "report.css").read_text("utf-8") + palette.token_styles()
    scripts = [get_plotlyjs().replace("\r\n", "\n"), (here / "report.js").read_text("utf-8")]
    plots = {panel.identifier: panel.figure for panel in drawn}
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
    head = "\n".join(
        (
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            text("title", f"{title} - Tutelage report"),
            f"<style>{style}</style>",
        )
    )
    data = f'<script type="application/json" id="figures">{embedded_json(plots)}</script>'
    code = "\n".join(f"<script>{script}</script>" for script in scripts)
    noscript = element("noscript", text("p", "The plots need JavaScript; everything is in this file.", class_="notice"))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{noscript}\n{body}\n'
        f'<div id="tip" role="tooltip" hidden></div>\n{data}\n{code}\n</body>\n</html>\n'
    )


def _digest(script: str) -> str:
    """What the page's policy lets run: exactly these scripts, so that markup that slipped through could still do nothing."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
