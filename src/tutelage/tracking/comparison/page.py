"""A comparison as one self-contained HTML file, in the style of the report."""

from collections.abc import Sequence
from pathlib import Path

from tutelage.tracking import wording
from tutelage.tracking.comparison.compare import Comparison, Finding, Side
from tutelage.tracking.comparison.prompts import Answers
from tutelage.tracking.files import write_text
from tutelage.tracking.registry import Metric
from tutelage.tracking.report import figures, headline, settings, tokens
from tutelage.tracking.report.markup import element, escape, text
from tutelage.tracking.report.page import document, grid, legend, section

_MOST_PROMPTS = 20


def write_comparison(found: Comparison, path: Path) -> Path:
    """Write the page.

    Raises:
        CheckpointError: It could not be written.
    """
    write_text(path, page(found))
    return path


def page(found: Comparison) -> str:
    """The page's HTML."""
    runs = found.runs
    drawn = figures.draw(figures.RESULTS, runs, prefix="result")
    title = " and ".join(run.name for run in runs)
    head = element("header", text("p", "Tutelage comparison", class_="kicker"), text("h1", title))
    notes = "".join(text("p", note, class_="notice") for note in found.notes)
    sections = [
        section("result", "Result", headline.cards(runs)),
        section("paired", "Differences on the same prompts", _paired(found)),
        section("curves", "Curves", legend(runs) + grid(drawn)) if drawn else "",
        section("tokens", "The same prompts, token by token", _prompts(found)) if found.prompts else "",
        section("differences", "How the runs differ", settings.differences(runs)),
    ]
    return document(title, element("main", head, notes, *sections), drawn)


def _paired(found: Comparison) -> str:
    head = element("tr", text("th", "last evaluation"), *(text("th", run.name) for run in found.runs))
    rows = [
        element("tr", text("th", _title(each)), *(_cell(each.metric, side) for side in each.sides)) for each in found.findings
    ]
    table = element("div", element("table", element("thead", head), element("tbody", *rows)), class_="scroll")
    told = (
        f"Under each value the difference from {found.runs[0].name}, over the prompts that both were evaluated on, with its "
        "95 % interval: prompts are resampled with what both runs did on them. Bold where it excludes zero."
    )
    return text("p", told, class_="muted") + table


def _title(each: Finding) -> str:
    unit = each.metric.unit
    return each.metric.title if unit in ("", "fraction") else f"{each.metric.title}, {unit}"


def _cell(metric: Metric, side: Side | None) -> str:
    if side is None:
        return text("td", "-")
    value = escape(wording.value(metric, side.value))
    if side.paired is None:
        return element("td", value)
    paired = side.paired
    change = wording.change(metric, paired.first, paired.second)
    told = f"{change} [{wording.interval(metric, paired.interval)}]"
    return element("td", value, element("br"), text("strong" if paired.clear else "span", told))


def _prompts(found: Comparison) -> str:
    shown, total = found.prompts[:_MOST_PROMPTS], len(found.prompts)
    records = [record for each in shown for record in each.records]
    is_kl = tokens.has_kl(records)
    differ = sum(each.differ for each in found.prompts)
    told = f"{differ} of {wording.count(total, 'prompt')} have different responses; {len(shown)} are shown. "
    told += "Where verdicts differ comes first. The first token that differs from the first run's is framed."
    names = [run.name for run in found.runs]
    parts = [_answers(each, names, is_kl=is_kl) for each in shown]
    return text("p", told, class_="muted") + tokens.legend(records, is_kl=is_kl) + "".join(parts)


def _answers(each: Answers, names: Sequence[str], *, is_kl: bool) -> str:
    bodies: list[str] = []
    for place, (name, record) in enumerate(zip(names, each.records, strict=True)):
        mark = each.differs_at[place]
        if place == 0:  # framed where the others leave it
            mark = min((at for at in each.differs_at if at is not None), default=None)
        bodies.append(tokens.article(record, is_kl=is_kl, name=name, marked=mark))
    return element("div", tokens.prompt(each.prompt), *bodies, class_="side-by-side")
