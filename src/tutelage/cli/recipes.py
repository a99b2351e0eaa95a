"""`tutelage recipes [NAME]`: the methods, from a catalogue that was made from the recipes, without importing them."""

import argparse
import json
import textwrap
from importlib.resources import files
from typing import Any

from tutelage.errors import ConfigError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("name", nargs="?", help="a method; without one, all are listed")


def run(arguments: argparse.Namespace) -> int:
    """Print the list or a card."""
    catalogue = read_catalogue()
    if arguments.name is None:
        print(json.dumps(catalogue, indent=1) if arguments.json else _listing(catalogue))
        return 0
    if arguments.name not in catalogue:
        raise ConfigError(
            f"There is no recipe {arguments.name!r}{nearest(arguments.name, catalogue)}. Recipes: {', '.join(catalogue)}."
        )
    entry = catalogue[arguments.name]
    print(json.dumps(entry, indent=1) if arguments.json else _card(arguments.name, entry))
    return 0


def read_catalogue() -> dict[str, Any]:
    """The generated catalogue: name -> what is worth knowing."""
    return json.loads((files("tutelage") / "recipes" / "catalogue.json").read_text(encoding="utf-8"))


def _listing(catalogue: dict[str, Any]) -> str:
    width = max(len(name) for name in catalogue)
    lines = [f"{name:<{width}}  {entry['family']:<17}  {entry['title']}" for name, entry in catalogue.items()]
    return "\n".join([*lines, "", "tutelage recipes NAME prints a card, tutelage train NAME uses it."])


def _card(name: str, entry: dict[str, Any]) -> str:
    knobs = [f"{knob['name']} = {knob['default']}: {knob['meaning']}" for knob in entry["knobs"]]
    sections = [
        ("", f"{name}: {entry['title']} ({entry['paper']})"),
        ("", entry["summary"]),
        ("minimises", entry["equation"]),
        ("knobs (--knobs.NAME VALUE)", "\n".join(knobs)),
        ("needs of the teacher", ", ".join(entry["needs"]) or "nothing"),
        ("needs of the data", ", ".join(entry["columns"]) or "prompts only"),
        ("published settings", entry["settings"]),
        ("exact check", entry["exact_check"]),
        ("differs from the paper", entry["differs"]),
        ("command", entry["command"]),
    ]
    return "\n\n".join(_section(title, body) for title, body in sections if body)


def _section(title: str, body: str) -> str:
    indent = "  " if title else ""
    lines = [textwrap.fill(line.strip(), 100, initial_indent=indent, subsequent_indent=indent) for line in body.splitlines()]
    return "\n".join([f"{title}:", *lines] if title else lines)
