"""Responses that an earlier run wrote and kept, for a run that would write the same ones again."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tutelage.errors import CheckpointError, ConfigError, DataError
from tutelage.rollouts.sources import DatasetRollouts, ReplayRollouts
from tutelage.run.config import RunConfig
from tutelage.run.overrides import from_tree, to_tree
from tutelage.run.recording import MAX_TABLE_ROLLOUTS
from tutelage.tracking import RunFolder
from tutelage.training import checkpoint

_DECIDES = (
    "student",
    "data",
    "recipe.rollouts",
    "sampler",
    "seed",
    "wrap_prompts",
    "training.prompts_per_step",
    "training.precision",
    "device",
)
"""Settings on which it depends what is written before the first step."""


def kept_responses(path: Path, config: RunConfig) -> dict[str, Any]:
    """The state of the writer of an earlier run, which holds every response of it.

    Args:
        path: Folder of the earlier run.
        config: The run that would write the same.

    Raises:
        CheckpointError: The folder is no run, or has no whole checkpoint.
        ConfigError: The earlier run does not keep its responses; or this run would write others.
    """
    folder = RunFolder.open_existing(path)
    earlier = from_tree(folder.config())
    _require_kept(path, earlier)
    different = [name for name in _DECIDES if _at(config, name) != _at(earlier, name)]
    if different:
        raise ConfigError(
            f"This run would not write the responses of {str(path)!r}: {', '.join(different)} differ, and scores of responses "
            "that are never trained on are of no use. Give these settings as they were, or leave out --responses-of: then the "
            "student writes."
        )
    found = checkpoint.newest(folder.checkpoints)
    if found is None:
        raise CheckpointError(
            f"{str(path)!r} has no whole checkpoint, which would hold its responses. Leave out --responses-of: then the "
            "student writes them again."
        )
    return checkpoint.load(found)["writer"]


def require_all(state: dict[str, Any], wanted: Collection[str]) -> None:
    """Refuse responses of which some are missing, by the ids of the examples.

    Raises:
        DataError: Data has been added since.
    """
    if missing := sorted(set(wanted) - state["written"].keys()):
        raise DataError(
            f"The earlier run has no responses to {len(missing)} of {len(wanted)} examples, the first {missing[0]!r}: the data "
            "is not what it was. Leave out --responses-of: then the student writes to all of them."
        )


def _require_kept(path: Path, earlier: RunConfig) -> None:
    match earlier.recipe.rollouts:
        case ReplayRollouts(ahead=True):
            return
        case DatasetRollouts():
            raise ConfigError(
                f"The run {str(path)!r} wrote nothing: its responses are those of its data. Use --from in place of "
                "--responses-of."
            )
        case source:
            every = earlier.logging.rollouts_every
            raise ConfigError(
                f"The run {str(path)!r} ({source.kind!r} rollouts) wrote its responses while it went on, and its tables are a "
                f"sample: {f'every {every} steps' if every else 'of the last step'}, at most {MAX_TABLE_ROLLOUTS} responses "
                "each. With another teacher they would be others. What can be scored again is written before the first step, "
                "as in lightning; for other runs --scores.folder keeps what the teacher says while they go on."
            )


def _at(config: RunConfig, name: str) -> Any:
    tree: Any = to_tree(config)
    for part in name.split("."):
        tree = tree[part]
    return tree
