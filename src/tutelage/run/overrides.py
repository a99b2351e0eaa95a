"""Changes to a configuration, from files and flags: one tree, merged, then validated once."""

import json
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tutelage.errors import ConfigError
from tutelage.run.config import RunConfig
from tutelage.run.explaining import explain
from tutelage.run.setting_types import types_at, with_default_kinds

Tree = dict[str, Any]
"""Settings as nested plain values, the form of a JSON file."""

ALIASES: Mapping[str, str] = {
    "student": "student.path",
    "teacher": "recipe.teacher.model",
    "data": "data.path",
    "evaluation-data": "evaluation_data.path",
}
"""Short flags for the settings that nearly every run names."""

_CONFIG = TypeAdapter(RunConfig)


def to_tree(config: RunConfig) -> Tree:
    """A configuration as plain values; `from_tree` undoes it exactly."""
    return _CONFIG.dump_python(config, mode="json")


def from_tree(tree: Mapping[str, Any]) -> RunConfig:
    """Validate plain values. A part that does not say its kind is taken for the default one.

    Raises:
        ConfigError: A key is unknown (with the nearest valid one) or a value does not fit; all findings are listed.
    """
    tree = with_default_kinds(tree, RunConfig)
    try:
        return _CONFIG.validate_python(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, root=RunConfig, tree=tree)) from None


def changed(config: RunConfig, *changes: Tree) -> RunConfig:
    """A configuration with changes laid over it, the last one on top.

    Raises:
        ConfigError: As `from_tree`.
    """
    tree: Any = to_tree(config)
    for change in changes:
        tree = merged(tree, change)
    teacher = tree["recipe"]["teacher"] if isinstance(tree["recipe"], dict) else None
    if config.recipe.teacher is None and isinstance(teacher, dict):
        tree["recipe"] = {**tree["recipe"], "teacher": {"kind": "model", **teacher}}  # --teacher can mean nothing else
    return from_tree(tree)


def merged(base: Any, change: Any, *, path: str = "") -> Any:
    """A tree with some branches replaced.

    Mappings merge key by key, unless a `kind` changes: another kind of part starts from its own defaults. Entries of a list
    are changed by index. Everything else is replaced.

    Raises:
        ConfigError: An index lies outside its list.
    """
    if isinstance(base, list) and isinstance(change, dict) and change and all(key.isdigit() for key in change):
        entries = list(base)
        for key, value in change.items():
            if int(key) >= len(entries):
                raise ConfigError(f"{path or 'The list'} has {len(entries)} entries, so there is no entry {key} to change.")
            entries[int(key)] = merged(entries[int(key)], value, path=f"{path}.{key}")
        return entries
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    if "kind" in change and change["kind"] != base.get("kind"):
        return change
    return {**base, **{key: merged(base.get(key), value, path=f"{path}.{key}".lstrip(".")) for key, value in change.items()}}


def read_file(path: Path) -> Tree:
    """The settings in a TOML or JSON file.

    Raises:
        ConfigError: It is missing or cannot be read.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"The configuration file {str(path)!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"The configuration file {str(path)!r} is not valid {kind}: {error}.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"The configuration file {str(path)!r} holds {type(found).__name__}, not settings by their names.")
    return found


def from_flags(arguments: Sequence[str]) -> Tree:
    """The settings in flags such as `--optimiser.learning-rate 1e-4` or `--recipe.terms.0.scale=0.5`.

    Raises:
        ConfigError: An argument is no flag, a flag has no value, a list or object is not valid JSON, or a setting is given
            as a whole and in parts.
    """
    tree: Tree = {}
    for name, value in _pairs(arguments):
        path = ALIASES.get(name, name).replace("-", "_").split(".")
        *branches, leaf = path
        here = tree
        for branch in branches:
            here = here.setdefault(branch, {})
            if not isinstance(here, dict):
                raise ConfigError(
                    f"--{name} is a part of {branch!r}, which another flag sets as a whole. Leave one of them out."
                )
        here[leaf] = _value(value, types_at(RunConfig, path))
    return tree


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not name:
            raise ConfigError(f"{argument!r} is neither a flag nor a flag's value. Settings are given as --name value.")
        if not equals:
            value = next(rest, None)
            if value is None or value.startswith("--"):
                raise ConfigError(f"--{name} has no value. Give one: --{name} VALUE (true or false for a switch).")
        yield name, value


def _value(text: str, types: Collection[Any]) -> Any:
    """What a flag's text stands for, given the types that its setting may have; numbers are left to validation.

    Lists, objects, switches and null are JSON, except where the setting is a text. Where anything goes, what can be read as
    JSON is.
    """
    wanted = set(types)
    if wanted and wanted <= {str, type(None)}:
        return None if text == "null" and type(None) in wanted else text
    if Any not in wanted and text[:1] not in ("[", "{") and text not in ("true", "false", "null"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        if Any in wanted:
            return text
        raise ConfigError(f"{text!r} looks like JSON but is not: {error}.") from error
