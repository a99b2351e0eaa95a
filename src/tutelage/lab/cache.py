"""Folders that are made once and kept under the user's cache folder, named by what they were made from."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tutelage import __version__
from tutelage.errors import CheckpointError

ORIGIN = "made-from.json"
"""Says in each kept folder what it was made from."""


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tutelage`, or `~/.cache/tutelage` where that variable is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage"


def kept(
    name: str,
    origin: Mapping[str, Any],
    make: Callable[[Path], None],
    *,
    fresh: bool = False,
    root: Path | None = None,
) -> Path:
    """A folder with what `make` writes, made now or found from before.

    A folder is written under a temporary name and renamed when whole, so one that exists is complete; two processes that make
    the same one at once do not disturb each other.

    Args:
        name: What people call it; the start of the folder's name.
        origin: Everything that decides the content, as JSON-able values. With the package's version it decides the folder.
        make: Writes the content into the folder that it is given.
        fresh: Make it again even if it is there.
        root: Where such folders lie; None takes the user's cache folder.

    Raises:
        CheckpointError: The folder could not be written.
    """
    text = json.dumps({"version": __version__, "origin": origin}, sort_keys=True, indent=1)
    root = root or cache_folder()
    final = root / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if final.is_dir() and not fresh:
        return final
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        make(temporary)
        (temporary / ORIGIN).write_text(text)
        _put_in_place(temporary, final)
    except OSError as error:
        raise _unwritable(root, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _put_in_place(temporary: Path, final: Path) -> None:
    """Rename; where another process was first, its folder gives way to ours, which has the same content."""
    temporary.chmod(0o755)  # mkdtemp lets nobody else read
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)


def _unwritable(root: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"Nothing can be kept in {str(root)!r}: {error.strerror or error}. The models of the quickstart and the tasks are made "
        "once and lie there; free some space, or set XDG_CACHE_HOME to a folder that can be written."
    )
