"""A hook of the documentation's build that fills in what stands in the code.

`@settings module.Class` becomes a table of the class's fields, `@package name` the reference of each of its modules. The source
is read and not imported.
"""

import logging
import re

import griffe

logger = logging.getLogger("mkdocs.hooks")  # where a warning makes a strict build fail
_SETTINGS = re.compile(r"^@settings (\S+)$", re.MULTILINE)
_PACKAGE = re.compile(r"^@package (\S+)$", re.MULTILINE)
_MARK = re.compile(r"^Annotated\[(.*), Field\(.*\)\]$", re.DOTALL)  # how a union is told apart is no reader's business
_MADE = re.compile(r"^field\(default_factory=(\w+).*\)$", re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace each directive of a page."""
    markdown = _SETTINGS.sub(lambda match: settings(match[1]), markdown)
    return _PACKAGE.sub(lambda match: package(match[1]), markdown)


def package(name: str) -> str:
    """A mkdocstrings directive for the package and each of its modules."""
    modules = sorted(griffe.load(name, search_paths=["src"]).modules)
    return "\n\n".join(f"::: {name}.{module}" for module in modules if not module.startswith("_"))


def settings(path: str) -> str:
    """One row per field: name, default, meaning, type."""
    module, _, name = path.rpartition(".")
    found = griffe.load(module, search_paths=["src"])[name]
    summary = found.docstring.value.splitlines()[0] if found.docstring else ""
    rows = [_row(field) for field in found.attributes.values() if _is_setting(field)]
    lines = [summary, "", "| setting | default | meaning | type |", "|---|---|---|---|", *rows]
    return "\n".join(lines if rows else [summary])


def _is_setting(field: griffe.Attribute) -> bool:
    annotated = field.annotation is not None and "instance-attribute" in field.labels  # what ClassVar marks is none
    return annotated and not field.name.startswith("_") and field.name != "kind"


def _row(field: griffe.Attribute) -> str:
    made = _MADE.sub(r"\1()", str(field.value))
    default = "required" if field.value is None else f"`{_cell(made)}`"
    if field.docstring is None:
        logger.warning("The setting %s has no docstring: say in one line what it does, and in which unit.", field.path)
    meaning = _cell(field.docstring.value) if field.docstring else ""
    kind = _cell(_MARK.sub(r"\1", str(field.annotation)))
    return f"| `{field.name}` | {default} | {meaning} | `{kind}` |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace(" | ", " or ").replace("|", "\\|")
