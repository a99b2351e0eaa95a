"""A hook of the documentation's build: the table of all methods, and a page for each family, made of the cards.

`@methods` becomes the table. `methods/FAMILY.md` is generated: equation, knobs, what a method needs and costs, its command, and
what came out when its claim was measured.
"""

import re
from collections.abc import Iterable, Mapping
from inspect import getdoc
from pathlib import Path
from sys import modules
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tutelage.lab.reproduction.claim import Claim
from tutelage.lab.reproduction.claims import CLAIMS
from tutelage.lab.reproduction.page import comparison
from tutelage.lab.reproduction.results import Results
from tutelage.lab.reproduction.rows import Table
from tutelage.recipes import REGISTRY, Entry
from tutelage.recipes.catalogue import catalogue
from tutelage.tracking.wording import markdown_table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "reproduction"
_DIRECTIVE = re.compile(r"^@methods$", re.MULTILINE)
_ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")
_QUESTIONS = ("rollouts", "context", "support", "weights", "routing", "rewards", "schedule", "teacher_update")
"""Axes that the table shows; the others are the method's title."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the families' pages."""
    for name in families():
        files.append(File.generated(config, f"methods/{name}.md", content=family(name)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the directive of a page."""
    return _DIRECTIVE.sub(lambda _: methods(), markdown)


def families() -> list[str]:
    """Every family, in the order of the registry."""
    return list(dict.fromkeys(entry.family for entry in REGISTRY.values()))


def methods() -> str:
    """A table of all methods with the choices that they make."""
    known = catalogue()
    return markdown_table(
        ["method", "title", "source", "choices of its own", "needs", "measured here"],
        [_row(entry, known[name]) for name, entry in REGISTRY.items()],
    )


def family(name: str) -> str:
    """The page of a family."""
    known, table = catalogue(), Table(Results(RESULTS))
    entries = [entry for entry in REGISTRY.values() if entry.family == name]
    purpose = getdoc(modules[f"tutelage.recipes.{name}"]) or ""
    heading = name.replace("_", " ").capitalize()
    return "\n\n".join([f"# {heading}", purpose, *(_section(entry, known[entry.name], table) for entry in entries)]) + "\n"


def _row(entry: Entry, known: Mapping[str, Any]) -> list[str]:
    choices = [
        f"{axis.replace('_', ' ')}: {', '.join(f'`{kind}`' for kind in known['axes'][axis])}"
        for axis in _QUESTIONS
        if known["axes"][axis] and known["axes"][axis] != ["student"]
    ]
    needs = [*known["needs"], *known["verdicts"], *(column for column in known["columns"] if column != "prompt")]
    words = [row["verdict"] for row in known["reproduction"]]
    return [
        f"[`{entry.name}`](methods/{entry.family}.md#{entry.name})",
        entry.card.title,
        _link(entry.card.paper),
        "; ".join(choices),
        ", ".join(needs),
        ", ".join(words),
    ]


def _section(entry: Entry, known: Mapping[str, Any], table: Table) -> str:
    card = entry.card
    knobs = [[f"`{knob.name}`", f"`{knob.default}`", _cell(knob.meaning)] for knob in card.knobs]
    cost = known["cost"]
    facts = {
        "Source": _link(card.paper),
        "Needs of the teacher": ", ".join(known["needs"]),
        "Needs of the verifier": ", ".join(known["verdicts"]),
        "Needs of the data": ", ".join(known["columns"]),
        "Costs per trained token": (
            f"{cost['student_forwards']} student and {cost['teacher_forwards']} teacher forwards, "
            f"{cost['head_products']} products of the head"
        ),
        "Written besides": "; ".join(cost["generation"]),
        "Trained with": card.settings,
        "Exact check": card.exact_check,
        "Differs from the paper": card.differs,
    }
    parts = [
        f"## {entry.name}",
        f"**{card.title}.** {card.summary}",
        f"```text\n{card.equation}\n```",
        markdown_table(["knob", "default", "meaning"], knobs) if knobs else "",
        "\n".join(f"- **{name}:** {_cell(text)}" for name, text in facts.items() if text),
        f"```sh\n{known['command']}\n```",
        _measured([claim for claim in CLAIMS if claim.method == entry.name], table),
    ]
    return "\n\n".join(part for part in parts if part)


def _measured(claims: Iterable[Claim], table: Table) -> str:
    """Each claim in a line, and one picture per task."""
    told, drawn = list[str](), dict[str, str]()
    for claim in claims:
        row = table.row(claim)
        if row.verdict is not None:
            told.append(f"- {claim.statement} On [`{claim.task}`](../tasks.md#{claim.task}): **{row.verdict.word}**.")
            drawn.setdefault(claim.task, comparison(table, claim))
    return "\n".join(["**Measured here** ([all rows](../reproduction.md)):", "", *told, "", *drawn.values()]) if told else ""


def _link(paper: str) -> str:
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)


def _cell(text: str) -> str:
    return re.sub(r"([|_*])", r"\\\1", text)
