"""What is wrong with a configuration, in words: each finding with its path, what was expected, and the nearest valid name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from typing import Annotated, Any, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tutelage.errors import nearest
from tutelage.run.setting_types import Step, inside, kind_of, kinds_of, label_of, names_of, options_of, setting_names

MAX_NAMES = 3
"""Settings of the same name elsewhere that a message offers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a finding lies: the path as a reader writes it, and the types on the way."""

    path: tuple[Step, ...]
    holder: Any
    """Type that the path's last step was looked up in."""
    hint: Any
    """Type of the setting itself; None where there is none of that name."""
    union: Any
    """What `holder` is one branch of; None where there was no choice."""
    branches: tuple[tuple[tuple[Step, ...], Any], ...]
    """For each union on the way that is not told apart by `kind`: its path, and the branch that was tried."""


def explain(error: ValidationError, *, root: type, tree: Mapping[str, Any]) -> str:
    """One line per finding.

    Args:
        error: What validation found.
        root: The dataclass that was asked for.
        tree: What was validated.
    """
    found = [(_place(details["loc"], root), details) for details in error.errors(include_url=False)]
    lines = [_line(place, details, root) for place, details in found if _meant(place, tree)]
    return "\n".join(dict.fromkeys(lines))


def _line(place: _Place, details: ErrorDetails, root: type) -> str:
    path, given = ".".join(str(step) for step in place.path), details["input"]
    match details["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return _unknown(place, path, root)
        case "union_tag_invalid":
            kinds, tag = kinds_of(*options_of(place.hint)), details.get("ctx", {})["tag"]
            return f"{path}.kind: there is no kind {tag!r}{nearest(tag, kinds)}. Kinds: {', '.join(kinds)}."
        case "union_tag_not_found":
            kinds = " or ".join(kinds_of(*options_of(place.hint)))
            return f"{path} comes in several kinds. Say which, {path}.kind = {kinds}; got {given!r}."
        case "missing":
            return f"{path} has no value, and no default."
        case "value_error":
            return f"{path or 'The run'}: {details['msg'].removeprefix('Value error, ')}"
        case "dataclass_type":
            return f"{path} is a group of settings ({', '.join(names_of(place.hint))}), got {given!r}."
        case "tuple_type":
            return f'{path} is a list, such as [1, 2] or ["a"], got {given!r}.'
        case _:
            return f"{path or 'The run'}: {details['msg']}, got {given!r}."


def _unknown(place: _Place, path: str, root: type) -> str:
    parent = ".".join(str(step) for step in place.path[:-1])
    known, name = names_of(place.holder), str(place.path[-1])
    others = [option for option in options_of(place.union) if name in names_of(option)]
    if others:
        return (
            f"There is no setting {path!r} where {parent}.kind is {kind_of(place.holder)!r}; it belongs to "
            f"{' and '.join(kinds_of(*others))}. Set {parent}.kind as well. {parent} has: {', '.join(known)}."
        )
    likely = [f"{parent}.{close}".lstrip(".") for close in get_close_matches(name, known, n=1)] or _elsewhere(path, name, root)
    hint = f" (did you mean {' or '.join(repr(other) for other in likely)}?)" if likely else ""
    return f"There is no setting {path!r}{hint}. {parent or 'A run'} has: {', '.join(known)}."


def _elsewhere(path: str, name: str, root: type) -> list[str]:
    """Settings of that name in other groups, else the one whose whole path looks most alike."""
    known = list(dict.fromkeys(setting_names(root)))
    same = [other for other in known if other.rpartition(".")[2] == name]
    return same[:MAX_NAMES] or get_close_matches(path, known, n=1)


def _place(location: Sequence[Step], root: type) -> _Place:
    """Follow a location through the types; names of union branches in it are no part of the path."""
    path: list[Step] = []
    holder, here, union, branches = None, root, None, list[tuple[tuple[Step, ...], Any]]()
    for step in location:
        options = options_of(here)
        if len(options) > 1:
            union, here = here, next((option for option in options if step in (kind_of(option), label_of(option))), None)
            if get_origin(union) is not Annotated:
                branches.append((tuple(path), here))
        else:
            path.append(step)
            union = union if here in options_of(union) else None
            holder, here = here, inside(options[0], step)
    return _Place(path=tuple(path), holder=holder, hint=here, union=union, branches=tuple(branches))


def _meant(place: _Place, tree: Mapping[str, Any]) -> bool:
    """Whether a finding is about the branch of a union that its writer had in mind, as far as that can be told."""
    for path, branch in place.branches:
        value = _value_at(tree, path)
        if isinstance(value, Mapping) != is_dataclass(branch):
            return False
        if isinstance(value, Mapping) and "kind" in value and value["kind"] != kind_of(branch):
            return False
    return True


def _value_at(tree: Any, path: Sequence[Step]) -> Any:
    for step in path:
        tree = tree[step]
    return tree
