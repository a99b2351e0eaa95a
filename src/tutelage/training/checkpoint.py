"""Checkpoints: written under a temporary name, checked by digest, renamed when whole."""

import hashlib
import json
import logging
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage.errors import CheckpointError

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"step-(\d+)$")
_STATE = "state.pt"
_MANIFEST = "manifest.json"

State = dict[str, Any]
"""Nested dictionaries of tensors and plain values, one entry per part of the run that has a state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    step: int
    """Optimiser steps taken."""

    @property
    def student(self) -> Path:
        """The student in Hugging Face format."""
        return self.path / "student"


def save(folder: Path, *, step: int, state: State, save_student: Callable[[Path], None], keep: int) -> Checkpoint:
    """Write a checkpoint that is either whole or absent, then drop all but the newest.

    Args:
        folder: The run's `checkpoints` folder.
        step: Optimiser steps taken.
        state: What the run needs to continue to the same bits.
        save_student: Writes the student in Hugging Face format into the folder that it is given.
        keep: Newest checkpoints that stay.

    Raises:
        CheckpointError: It could not be written, for example on a full disk. Nothing half-written is left behind.
    """
    final = folder / f"step-{step:06d}"
    temporary = folder / f".step-{step:06d}.writing"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_student(temporary / "student")
        torch.save({**state, "random": _random_state()}, temporary / _STATE)
        (temporary / _MANIFEST).write_text(json.dumps({"step": step, "files": _digests(temporary)}, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    except (OSError, RuntimeError) as error:  # torch.save and safetensors report a full disk as RuntimeError
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {step} could not be written to {str(folder)!r}: {error}. Nothing half-written was kept; "
            "older checkpoints are untouched. Free some space or choose another --output, then continue with --resume."
        ) from error
    for old in whole(folder)[:-keep]:
        shutil.rmtree(old.path)
    return Checkpoint(path=final, step=step)


def whole(folder: Path) -> list[Checkpoint]:
    """Checkpoints that were finished, oldest first; leftovers of an interrupted write are named in the log and ignored."""
    found: list[Checkpoint] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.endswith(".writing"):
            _LOG.warning("Ignoring %s: it was being written when the run ended.", path.name)
        elif (match := _NAME.fullmatch(path.name)) and (path / _MANIFEST).is_file():
            found.append(Checkpoint(path=path, step=int(match[1])))
        elif match:
            _LOG.warning("Ignoring %s: it has no %s, so it is not whole.", path.name, _MANIFEST)
    return found


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose files are as they were written; damaged ones are named in the log and passed over."""
    for checkpoint in reversed(whole(folder)):
        if damage := _damage(checkpoint.path):
            _LOG.warning("Ignoring %s: %s.", checkpoint.path.name, damage)
        else:
            return checkpoint
    return None


def load(checkpoint: Checkpoint) -> State:
    """The state of a checkpoint; random generators are set to where they were.

    Raises:
        CheckpointError: The state cannot be read.
    """
    try:
        state: State = torch.load(checkpoint.path / _STATE, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"The state in {checkpoint.path.name} cannot be read: {error}. Remove that folder and resume."
        ) from error
    _set_random_state(state.pop("random"))
    return state


def _digests(folder: Path) -> dict[str, dict[str, int | str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "blake2b": _digest(path)} for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _damage(folder: Path) -> str | None:
    try:
        recorded: dict[str, dict[str, int | str]] = json.loads((folder / _MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {_MANIFEST} cannot be read ({error})"
    for name, entry in recorded.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"] or _digest(path) != entry["blake2b"]:
            return f"{name} is not as it was written"
    return None


def _random_state() -> State:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": list(random.getstate()),
    }


def _set_random_state(state: State) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
