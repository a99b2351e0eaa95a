"""Further places that metrics go to: the trackers that accelerate knows, each only where its package is installed."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from tutelage.errors import ConfigError
from tutelage.tracking.run_folder import RunFolder

SinkName = Literal["tensorboard", "trackio", "wandb"]


@runtime_checkable
class Sink(Protocol):
    """A place that metrics go to."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Take the metrics of one event."""
        ...

    def finish(self) -> None:
        """Write out what is still held back."""
        ...


def open_sinks(
    names: Sequence[SinkName], folder: RunFolder, *, config: Mapping[str, Any], resumed_step: int | None = None
) -> list[Sink]:
    """Start the trackers of a run; they get the configuration with nested keys joined by dots.

    Args:
        names: Which.
        folder: Of the run. TensorBoard writes below it; the others file the run under its name.
        config: The resolved configuration.
        resumed_step: Steps taken where a run resumes; TensorBoard then drops what it knows of later ones.

    Raises:
        ConfigError: A tracker's package is not installed.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"The tracker {name!r} needs the package {name!r}, which is not installed. Install it (pip install {name}, or "
                "all of them: pip install 'tutelage[trackers]'), or leave it out of --logging.trackers: metrics.jsonl is "
                "written in any case."
            )
    settings = {key: "none" if value is None else value for key, value in flat(config).items()}
    return [_start(name, folder, settings, resumed_step) for name in names]


def _start(name: SinkName, folder: RunFolder, settings: dict[str, Any], resumed_step: int | None) -> Sink:
    from accelerate import tracking  # imports torch, which only a training run should pay for

    if name == "tensorboard":
        purge = {} if resumed_step is None else {"purge_step": resumed_step + 1}
        tracker = tracking.TensorBoardTracker("tensorboard", folder.path, **purge)
    elif name == "wandb":
        tracker = tracking.WandBTracker("tutelage", name=folder.name, dir=str(folder.path))
    else:
        tracker = tracking.TrackioTracker("tutelage", name=folder.name)
    tracker.start()
    if resumed_step is None:
        tracker.store_init_configuration(settings)
    return tracker


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping with dotted keys, the names that flags have.

    Values are None, bool, int, float or str; an empty mapping or list is the text `{}` or `[]`.
    """
    if isinstance(content, Mapping) and content:
        pairs = list(content.items())
    elif isinstance(content, list | tuple) and content:
        pairs = list(enumerate(content))
    else:
        return {prefix: content if content is None or isinstance(content, bool | int | float | str) else str(content)}
    found: dict[str, Any] = {}
    for key, value in pairs:
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found
