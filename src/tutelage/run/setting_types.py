"""The types behind a configuration: which settings exist, and which kinds a part comes in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

Step = int | str
"""One step of the way to a setting: a name, or the index of an entry."""


def setting_names(hint: Any, path: str = "") -> Iterator[str]:
    """The dotted names of all settings below a type; entries of tuples are numbered 0."""
    for option in options_of(hint):
        if is_dataclass(option):
            for name, inner in get_type_hints(option, include_extras=True).items():
                if any(field.name == name for field in fields(option)):
                    yield f"{path}.{name}".lstrip(".")
                    yield from setting_names(inner, f"{path}.{name}".lstrip("."))
        elif get_origin(option) is tuple:
            yield from setting_names(get_args(option)[0], f"{path}.0")


def types_at(root: Any, path: Sequence[str]) -> list[Any]:
    """The types that a setting may have, None's included, over all kinds of the parts on the way; nothing if there is none."""
    found = [root]
    for step in path:
        inner = [inside(option, step) for hint in found for option in options_of(hint)]
        found = [hint for hint in inner if hint is not None]
    return [option for hint in found for option in branches_of(hint)]


def options_of(hint: Any) -> list[Any]:
    """The branches of a union, without annotations and None."""
    return [option for option in branches_of(hint) if option is not type(None)]


def branches_of(hint: Any) -> list[Any]:
    """The branches of a union, without annotations."""
    if get_origin(hint) is Annotated:
        return branches_of(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [option for branch in get_args(hint) for option in branches_of(branch)]
    return [hint]


def inside(option: Any, step: Step) -> Any:
    """Type of a field, an entry or a value; None where there is none."""
    if is_dataclass(option):
        return get_type_hints(option, include_extras=True).get(str(step))
    if get_origin(option) is tuple:
        return get_args(option)[0]
    if get_origin(option) is Mapping:
        return get_args(option)[1]
    return None


def names_of(hint: Any) -> list[str]:
    """Fields of the first dataclass among a hint's branches."""
    return next(([field.name for field in fields(option)] for option in options_of(hint) if is_dataclass(option)), [])


def kinds_of(*options: Any) -> list[str]:
    """The kinds of those that have one."""
    return [kind for option in options if (kind := kind_of(option)) is not None]


def kind_of(option: Any) -> str | None:
    """What tells a part apart from the others of its family."""
    if not is_dataclass(option):
        return None
    return next((str(field.default) for field in fields(option) if field.name == "kind"), None)


def label_of(option: Any) -> str:
    """What validation calls a branch of a union that has no kinds."""
    return getattr(option, "__name__", str(option))


def with_default_kinds(tree: Any, hint: Any) -> Any:
    """Parts that do not say their kind get that of the default in their place.

    So `teacher = {kind = "self", context = {column = "answer"}}` needs no kind for the context.
    """
    if isinstance(tree, list):
        entries = next((get_args(option)[0] for option in options_of(hint) if get_origin(option) is tuple), None)
        return [with_default_kinds(entry, entries) for entry in tree]
    part = _part(tree, hint)
    if part is None:
        values = next((get_args(option)[1] for option in options_of(hint) if get_origin(option) is Mapping), None)
        return _with_kinds_of_values(tree, values) if isinstance(tree, Mapping) and values is not None else tree
    hints, found = get_type_hints(part, include_extras=True), dict(tree)
    for field in fields(part):
        inner = found.get(field.name)
        if isinstance(inner, Mapping) and "kind" not in inner and (kind := kind_of(type(_default(field)))) is not None:
            inner = {"kind": kind, **inner}
        if field.name in found:
            found[field.name] = with_default_kinds(inner, hints[field.name])
    return found


def _with_kinds_of_values(tree: Mapping[str, Any], hint: Any) -> dict[str, Any]:
    """Named parts have no default in their place, so the first kind of their family stands in."""
    kind = next(iter(kinds_of(*options_of(hint))), None)
    said = {
        name: {"kind": kind, **entry} if kind is not None and isinstance(entry, Mapping) and "kind" not in entry else entry
        for name, entry in tree.items()
    }
    return {name: with_default_kinds(entry, hint) for name, entry in said.items()}


def _part(tree: Any, hint: Any) -> Any:
    """The dataclass that a mapping is meant for; None where that is not clear."""
    if not isinstance(tree, Mapping):
        return None
    options = [option for option in options_of(hint) if is_dataclass(option)]
    if len(options) > 1:
        options = [option for option in options if kind_of(option) == tree.get("kind")]
    return options[0] if options else None


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default
