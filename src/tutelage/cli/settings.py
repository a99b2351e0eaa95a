"""From the arguments of a command to a configuration: recipe, then file, then flags."""

import argparse
import json
from pathlib import Path
from typing import Any

from tutelage.errors import ConfigError
from tutelage.recipes import Recipe, get
from tutelage.run import RunConfig, config_of
from tutelage.run.overrides import ALIASES, Tree, changed, from_flags, from_tree, merged, read_file, to_tree
from tutelage.tracking import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every command that builds a configuration."""
    parser.usage = f"{parser.prog} [RECIPE] [--config FILE] [--from RUN] [--output FOLDER] [--SETTING VALUE ...]"
    parser.add_argument("--config", type=Path, help="TOML or JSON file with settings")
    parser.add_argument("--from", dest="from_run", type=Path, help="take all settings of an earlier run")
    parser.add_argument("--output", help="folder of the run; new or empty")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _epilog()


def resolve(arguments: argparse.Namespace, *, default: Recipe | None = None) -> RunConfig:
    """The configuration that the arguments describe.

    Args:
        arguments: As parsed; `rest` holds the settings.
        default: Stands in where no method is named.

    Raises:
        ConfigError: No method is named, or a setting is unknown or does not fit.
    """
    named = arguments.rest.pop(0) if arguments.rest and not arguments.rest[0].startswith("--") else None
    change: Tree = read_file(arguments.config) if arguments.config else {}
    change = merged(change, from_flags(arguments.rest))
    if arguments.output is not None:
        change["output"] = arguments.output
    if named is None and arguments.from_run is None and _is_whole(change):
        return from_tree(change)
    base = _base(arguments.from_run, named, change, default)
    return changed(base, change)


def _is_whole(change: Tree) -> bool:
    """Whether the settings hold a recipe of their own, as a run's config.json does."""
    recipe = change.get("recipe")
    return isinstance(recipe, dict) and {"name", "rollouts", "terms"} <= recipe.keys()


def _base(from_run: Path | None, named: str | None, change: Tree, default: Recipe | None) -> RunConfig:
    """Where changes start from; takes what it used out of `change`."""
    knobs: dict[str, Any] = change.pop("knobs", {})
    name = change.pop("method", None) if named is None else named
    if from_run is not None:
        if name or knobs:
            raise ConfigError("--from takes the recipe of an earlier run: leave out the recipe's name and knobs.")
        return config_of(RunFolder.open_existing(from_run))
    if name is None and default is not None:
        return RunConfig(recipe=default)
    if name is None:
        raise ConfigError('Name a recipe: tutelage train RECIPE ..., or method = "RECIPE" in the file. See tutelage recipes.')
    return RunConfig(recipe=get(name).recipe(**knobs))


def _epilog() -> str:
    settings = _flat(to_tree(RunConfig(recipe=get("opd").recipe())))
    aliases = "\n".join(f"  --{alias:<40} = --{path}" for alias, path in ALIASES.items())
    listed = "\n".join(f"  --{name.replace('_', '-'):<40} {json.dumps(value)}" for name, value in settings.items())
    return (
        "Every setting is a flag by its place in the configuration; entries of lists by index, parts by their kind:\n"
        "  --recipe.terms.0.scale 0.5 --student.lora.rank 16 --recipe.teacher.update.kind average\n"
        "A recipe's own knobs: --knobs.beta 0.1\n\nshort:\n"
        f"{aliases}\n\nsettings and defaults (recipe as in opd):\n{listed}"
    ).replace("%", "%%")


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict) and tree:
        return {name: value for key, part in tree.items() for name, value in _flat(part, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(tree, list) and tree:
        return {name: value for key, part in enumerate(tree) for name, value in _flat(part, f"{path}.{key}").items()}
    return {path: tree}
