"""Files that are either whole or absent."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.errors import CheckpointError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written under a temporary name, then renamed: readers see the old file or the new one, never half of it.

    Args:
        path: The file.
        write: Writes into the path that it is given.

    Raises:
        CheckpointError: It could not be written, for example on a full disk. What stood there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole; lone surrogates, which no encoding can hold, become question marks.

    Raises:
        CheckpointError: It could not be written.
    """
    write_whole(path, lambda temporary: temporary.write_bytes(text.encode("utf-8", errors="replace")))


def write_json(path: Path, content: object) -> None:
    """Write a JSON file whole.

    Raises:
        CheckpointError: It could not be written.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        CheckpointError: It is missing, cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read: {error}. It belongs to every run folder: restore it, or start a new run."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{str(path)!r} should hold a JSON object and holds a {type(content).__name__}.")
    return content


def unwritable(path: Path, error: OSError) -> CheckpointError:
    """The error for a file that could not be written."""
    return CheckpointError(
        f"{str(path)!r} could not be written: {error.strerror or error}. What was written before is intact. Free some space or "
        "mend the permissions, then continue with --resume, or choose another --output."
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # the caller's error matters more; say what is left behind
        raise CheckpointError(f"{str(path)!r} could neither be written nor removed: {error}. Remove it by hand.") from error
