"""The folder of a run: the only interface between what trains and what reads a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from tutelage.errors import CheckpointError
from tutelage.tracking.files import read_json_object, write_json

_TABLE = re.compile(r"step-(\d+)\.parquet")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """Where everything of a run lies. Make one with `create` or `open_existing`."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def environment_file(self) -> Path:
        """Versions, git state, seeds, hardware."""
        return self.path / "environment.json"

    @property
    def metrics_file(self) -> Path:
        """One event a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def report_file(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"

    def rollout_file(self, step: int) -> Path:
        """The table of a step's rollouts."""
        return self.path / "rollouts" / f"step-{step:06d}.parquet"

    def rollout_files(self) -> dict[int, Path]:
        """The tables that exist, by step, in order."""
        return _by_step(self.path / "rollouts")

    def evaluation_file(self, step: int) -> Path:
        """The values of an evaluation, prompt by prompt."""
        return self.path / "evaluations" / f"step-{step:06d}.parquet"

    def evaluation_files(self) -> dict[int, Path]:
        """The evaluations that exist, by step, in order."""
        return _by_step(self.path / "evaluations")

    def evaluation_rollout_file(self, step: int) -> Path:
        """The table of some of an evaluation's responses, token by token."""
        return self.path / "evaluations" / "rollouts" / f"step-{step:06d}.parquet"

    def evaluation_rollout_files(self) -> dict[int, Path]:
        """The tables of evaluations that exist, by step, in order."""
        return _by_step(self.path / "evaluations" / "rollouts")

    def config(self) -> dict[str, Any]:
        """The resolved configuration as plain values.

        Raises:
            CheckpointError: The file is damaged.
        """
        return read_json_object(self.config_file)

    def environment(self) -> dict[str, Any]:
        """What the run ran on.

        Raises:
            CheckpointError: The file is damaged.
        """
        return read_json_object(self.environment_file)

    def drop_tables_after(self, step: int) -> None:
        """Remove tables of later steps, which a resumed run writes again."""
        for files in (self.rollout_files(), self.evaluation_files(), self.evaluation_rollout_files()):
            for later, path in files.items():
                if later > step:
                    path.unlink()

    @staticmethod
    def require_free(path: Path | str) -> None:
        """Refuse a place that cannot take a new run; leaves everything as it is.

        Raises:
            CheckpointError: Something is there already.
        """
        _refuse_what_is_there(RunFolder(path=Path(path)))

    @staticmethod
    def create(path: Path | str, *, config: Mapping[str, Any], environment: Mapping[str, Any]) -> "RunFolder":
        """Make the folder of a new run.

        Args:
            path: Absent or empty.
            config: The resolved configuration as JSON-able values.
            environment: See `tutelage.tracking.environment.describe`.

        Raises:
            CheckpointError: Something is there already, or nothing can be written there.
        """
        folder = RunFolder(path=Path(path))
        RunFolder.require_free(path)
        write_json(folder.environment_file, dict(environment))
        write_json(folder.config_file, dict(config))  # last: a folder with it is a run
        return folder

    @staticmethod
    def open_existing(path: Path | str) -> "RunFolder":
        """The folder of a run that was started before.

        Raises:
            CheckpointError: There is no such folder, it is something else, or it is damaged; says what was found instead.
        """
        folder = RunFolder(path=Path(path))
        if not folder.path.is_dir():
            raise CheckpointError(f"There is no folder {str(path)!r}. Give the folder of a run, which holds a config.json.")
        if not folder.environment_file.is_file() or not folder.config_file.is_file():
            raise CheckpointError(f"{str(path)!r} is not the folder of a run: {_what_it_is(folder)}")
        folder.config()
        folder.environment()
        return folder


def _by_step(folder: Path) -> dict[int, Path]:
    found = {int(match[1]): path for path in folder.glob("*.parquet") if (match := _TABLE.fullmatch(path.name))}
    return dict(sorted(found.items()))


def _refuse_what_is_there(folder: RunFolder) -> None:
    path = folder.path
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{str(path)!r} is a file and should be the folder of a new run. Choose another --output.")
    try:
        there = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error.strerror or error}. Choose another --output.") from error
    if folder.config_file.is_file() and folder.environment_file.is_file():
        raise CheckpointError(
            f"{str(path)!r} already holds a run, and a new one would mix with it. Continue it with --resume {str(path)!r}, or "
            "choose another --output."
        )
    if there:
        raise CheckpointError(
            f"{str(path)!r} is not empty and holds no run: {_listing(there)}. Nothing was changed. Choose another --output."
        )


def _what_it_is(folder: RunFolder) -> str:
    path = folder.path
    for parent in path.resolve().parents:
        if (parent / folder.config_file.name).is_file() and (parent / folder.environment_file.name).is_file():
            return f"it lies inside one. Did you mean {str(parent)!r}?"
    runs = sorted(entry.parent for entry in path.glob(f"*/{folder.environment_file.name}"))
    if runs:
        return f"it holds {len(runs)} of them. Did you mean {str(runs[-1])!r}?"
    if folder.config_file.is_file() and {"model_type", "architectures"} & folder.config().keys():
        return "it holds a model in Hugging Face format. Give the folder that `tutelage train` wrote to."
    names = sorted(entry.name for entry in path.iterdir())
    missing = [file.name for file in (folder.config_file, folder.environment_file) if not file.is_file()]
    return f"it has no {' and no '.join(missing)}, and holds {_listing(names)}. Give the folder that `tutelage train` wrote to."


def _listing(names: list[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
