"""`tutelage recipes [NAME]`: the methods, from a catalogue that was made from the recipes, without importing them."""

import argparse
import json
import textwrap
from importlib.resources import files
from typing import Any

from tutelage.errors import ConfigError, nearest

Catalogue = dict[str, dict[str, Any]]

_PLAIN = {"rollouts": {"student"}, "teacher": {"model"}}
"""Choices that almost every method makes, so that `--axis` does not count them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.description = (
        "List the methods, or print one method's card: what it minimises, its knobs, what it needs and costs, the axes that it "
        "uses, and what came out when its claim was measured."
    )
    parser.add_argument("name", nargs="?", help="a method; without one, all are listed")
    parser.add_argument(
        "--needs",
        metavar="WHAT",
        action="append",
        default=[],
        help="only methods that need it: verifier, teacher (another model), context, a column of the data such as solution, "
        "what the verifier says (reward, correct, feedback), what the teacher gives (sampled, top_k, full); may be repeated",
    )
    parser.add_argument(
        "--axis",
        metavar="AXIS",
        action="append",
        default=[],
        help="only methods that make a choice of their own there: rollouts, teacher, context, support, signal, weights, "
        "routing, rewards, schedule, teacher_update; may be repeated",
    )
    parser.add_argument(
        "--teacher", metavar="KIND", help="only methods whose teacher is of this kind: model, self, routed, none"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the list or a card."""
    catalogue = read_catalogue()
    if arguments.name is None:
        chosen = _chosen(catalogue, needs=arguments.needs, axes=arguments.axis, teacher=arguments.teacher)
        print(json.dumps(chosen, indent=1) if arguments.json else _listing(chosen, axes=arguments.axis))
        return 0
    if arguments.needs or arguments.axis or arguments.teacher:
        raise ConfigError(f"--needs, --axis and --teacher choose among all methods: leave out {arguments.name!r}, or them.")
    if arguments.name not in catalogue:
        raise ConfigError(
            f"There is no recipe {arguments.name!r}{nearest(arguments.name, catalogue)}. Recipes: {', '.join(catalogue)}."
        )
    entry = catalogue[arguments.name]
    print(json.dumps(entry, indent=1) if arguments.json else _card(arguments.name, entry))
    return 0


def read_catalogue() -> Catalogue:
    """The generated catalogue: name -> what is worth knowing."""
    return json.loads((files("tutelage") / "recipes" / "catalogue.json").read_text(encoding="utf-8"))


def _chosen(catalogue: Catalogue, *, needs: list[str], axes: list[str], teacher: str | None) -> Catalogue:
    """The methods that pass every filter.

    Raises:
        ConfigError: A filter names nothing that any method has; the message has what there is.
    """
    everybody = list(catalogue.values())
    known = (
        ("--needs", needs, set[str]().union(*map(_needs, everybody))),
        ("--axis", axes, set(everybody[0]["axes"])),
        ("--teacher", [teacher] if teacher else [], set[str]().union(*map(_teachers, everybody))),
    )
    for flag, asked, there in known:
        for name in asked:
            if name not in there:
                raise ConfigError(f"{flag} knows no {name!r}{nearest(name, there)}. It knows: {', '.join(sorted(there))}.")
    return {
        name: entry
        for name, entry in catalogue.items()
        if _needs(entry) >= set(needs)
        and all(_choices(entry, axis) for axis in axes)
        and (teacher is None or teacher in _teachers(entry))
    }


def _needs(entry: dict[str, Any]) -> set[str]:
    """Everything that a method needs, in the words of `--needs`."""
    named = {
        "verifier": bool(entry["verdicts"]),
        "teacher": bool({"model", "routed"} & set(entry["axes"]["teacher"])),
        "context": bool(entry["axes"]["context"]),
    }
    return {word for word, needed in named.items() if needed} | {*entry["needs"], *entry["columns"], *entry["verdicts"]}


def _teachers(entry: dict[str, Any]) -> set[str]:
    return set(entry["axes"]["teacher"]) or {"none"}


def _choices(entry: dict[str, Any], axis: str) -> list[str]:
    """What a method chooses on an axis beside what almost all do."""
    return [kind for kind in entry["axes"][axis] if kind not in _PLAIN.get(axis, ())]


def _listing(catalogue: Catalogue, *, axes: list[str]) -> str:
    if not catalogue:
        return "No method passes all of these filters."
    width = max(len(name) for name in catalogue)
    lines = [
        f"{name:<{width}}  {entry['family']:<17}  {_told(entry, axes) if axes else entry['title']}"
        for name, entry in catalogue.items()
    ]
    return "\n".join([*lines, "", "tutelage recipes NAME prints a card, tutelage train NAME uses it."])


def _told(entry: dict[str, Any], axes: list[str]) -> str:
    return "  ".join(f"{axis}: {', '.join(_choices(entry, axis))}" for axis in axes)


def _card(name: str, entry: dict[str, Any]) -> str:
    knobs = [f"{knob['name']} = {knob['default']}: {knob['meaning']}" for knob in entry["knobs"]]
    sections = [
        ("", f"{name}: {entry['title']} ({entry['paper']})"),
        ("", entry["summary"]),
        ("minimises", entry["equation"]),
        ("knobs (--knobs.NAME VALUE)", "\n".join(knobs)),
        ("axes", "\n".join(f"{axis}: {', '.join(kinds)}" for axis, kinds in entry["axes"].items() if kinds)),
        ("needs of the teacher", ", ".join(entry["needs"]) or "nothing"),
        ("needs of the verifier", ", ".join(entry["verdicts"]) or "nothing"),
        ("needs of the data", ", ".join(entry["columns"]) or "prompts only"),
        ("costs", _cost(entry["cost"])),
        ("published settings", entry["settings"]),
        ("exact check", entry["exact_check"]),
        ("differs from the paper", entry["differs"]),
        ("measured here", "\n".join(map(_measured, entry["reproduction"]))),
        ("command", entry["command"]),
    ]
    return "\n\n".join(_section(title, body) for title, body in sections if body)


def _cost(cost: dict[str, Any]) -> str:
    counted = (
        ("student_forwards", "student forward"),
        ("teacher_forwards", "teacher forward"),
        ("head_products", "head product"),
    )
    told = ", ".join(f"{cost[name]} {word}{'' if cost[name] == 1 else 's'}" for name, word in counted)
    return "\n".join([f"per trained token: {told}", *cost["generation"]])


def _measured(row: dict[str, Any]) -> str:
    ends = row["interval"]
    interval = f" [{ends[0]:+.3g}, {ends[1]:+.3g}]" if ends else ""
    return (
        f"{row['verdict']}: {row['claim']} ({row['metric'].replace('_', ' ')} on {row['task']} minus {row['baseline']}: "
        f"{row['difference']:+.3g}{interval}, {row['seeds']} seeds; {row['command']})"
    )


def _section(title: str, body: str) -> str:
    indent = "  " if title else ""
    wrapper = textwrap.TextWrapper(100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    lines = [wrapper.fill(line.strip()) for line in body.splitlines()]
    return "\n".join([f"{title}:", *lines] if title else lines)
