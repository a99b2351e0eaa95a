"""Changes to a configuration, from files and flags: one tree, merged, then validated once."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tutelage.errors import ConfigError, nearest
from tutelage.run.config import RunConfig

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
    """Validate plain values.

    Raises:
        ConfigError: A key is unknown (with the nearest valid one) or a value does not fit; all findings are listed.
    """
    try:
        return _CONFIG.validate_python(dict(tree))
    except ValidationError as error:
        raise ConfigError("\n".join(_explained(error))) from None


def changed(config: RunConfig, *changes: Tree) -> RunConfig:
    """A configuration with changes laid over it, the last one on top.

    Raises:
        ConfigError: As `from_tree`.
    """
    tree: Any = to_tree(config)
    for change in changes:
        tree = merged(tree, change)
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
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"The configuration file {str(path)!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"The configuration file {str(path)!r} is not valid {kind}: {error}.") from error


def from_flags(arguments: Sequence[str]) -> Tree:
    """The settings in flags such as `--optimiser.learning-rate 1e-4` or `--recipe.terms.0.scale=0.5`.

    Raises:
        ConfigError: An argument is no flag, a flag has no value, or a list or object is not valid JSON.
    """
    tree: Tree = {}
    for name, value in _pairs(arguments):
        *branches, leaf = ALIASES.get(name, name).replace("-", "_").split(".")
        here = tree
        for branch in branches:
            here = here.setdefault(branch, {})
        here[leaf] = _value(value)
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


def _value(text: str) -> Any:
    """Lists, objects, switches and null are read as JSON; numbers stay text, which validation turns into what a field needs."""
    if text[:1] in ("[", "{") or text in ("true", "false", "null"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{text!r} looks like JSON but is not: {error}.") from error
    return text


def _explained(error: ValidationError) -> Iterator[str]:
    for found in error.errors(include_url=False):
        holder, shown = _holder(found["loc"])
        path = ".".join(shown)
        if found["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            known = [field.name for field in fields(holder)] if holder is not None else []
            close = nearest(shown[-1], known)
            yield f"There is no setting {path!r}{close}. {'.'.join(shown[:-1]) or 'A run'} has: {', '.join(known)}."
        elif found["type"] == "value_error":
            yield f"{path}: {found['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{path or 'The configuration'}: {found['msg']}, got {found['input']!r}."


def _holder(location: Sequence[int | str]) -> tuple[Any, list[str]]:
    """The dataclass that an error's last step was looked up in, and the path without the names of union branches."""
    here: Any = RunConfig
    shown: list[str] = []
    for step in location[:-1]:
        branch = _branch(here, step)
        if branch is None:
            shown.append(str(step))
            here = _inside(_options(here), step)
        else:
            here = branch
    holders = [option for option in _options(here) if is_dataclass(option)]
    return (holders[0] if holders else None), [*shown, *(str(step) for step in location[-1:])]


def _branch(hint: Any, step: int | str) -> Any:
    """The branch of a union that validation names in its path: by `kind` where there is one, else by its class's name."""
    options = _options(hint)
    if get_origin(hint) is Annotated:
        return next((option for option in options if _kind(option) == step), None)
    return next((option for option in options if len(options) > 1 and getattr(option, "__name__", None) == step), None)


def _options(hint: Any) -> list[Any]:
    """The branches of a union, without annotations and None."""
    if get_origin(hint) is Annotated:
        return _options(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [option for branch in get_args(hint) for option in _options(branch) if option is not type(None)]
    return [hint]


def _inside(options: Sequence[Any], step: int | str) -> Any:
    for option in options:
        if isinstance(step, str) and step in _names(option):
            return get_type_hints(option, include_extras=True)[step]
        if isinstance(step, int) and get_origin(option) in (tuple, list):
            return get_args(option)[0]
    return None


def _names(option: Any) -> list[str]:
    return [field.name for field in fields(option)] if is_dataclass(option) else []


def _kind(option: Any) -> Any:
    return next((field.default for field in fields(option) if field.name == "kind"), None) if is_dataclass(option) else None
