"""A hook of the documentation's build: `@methods` becomes the table and the cards of the registered recipes."""

import re

from tutelage.recipes import REGISTRY, Entry

_DIRECTIVE = re.compile(r"^@methods$", re.MULTILINE)
_ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the directive of a page."""
    return _DIRECTIVE.sub(lambda _: methods(), markdown)


def methods() -> str:
    """A table of all recipes, and a section for each."""
    rows = [f"| [`{name}`](#{name}) | {entry.card.title} | {_link(entry.card.paper)} |" for name, entry in REGISTRY.items()]
    table = ["| recipe | method | source |", "|---|---|---|", *rows]
    return "\n".join([*table, "", *(_section(entry) for entry in REGISTRY.values())])


def _section(entry: Entry) -> str:
    card = entry.card
    knobs = [f"| `{knob.name}` | `{knob.default}` | {_cell(knob.meaning)} |" for knob in card.knobs]
    facts = {
        "Source": _link(card.paper),
        "Trained with": card.settings,
        "Exact check": card.exact_check,
        "Differs from the paper": card.differs,
    }
    parts = [
        f"## {entry.name}",
        f"**{card.title}.** {card.summary}",
        f"```text\n{card.equation}\n```",
        "\n".join(["| knob | default | meaning |", "|---|---|---|", *knobs]) if knobs else "",
        "\n".join(f"- **{name}:** {_cell(text)}" for name, text in facts.items() if text),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _link(paper: str) -> str:
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)


def _cell(text: str) -> str:
    return re.sub(r"([|_*])", r"\\\1", text)
