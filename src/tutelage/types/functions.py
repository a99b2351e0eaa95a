"""Functions of the user's own, which settings name by module or by file."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.errors import ConfigError, nearest


def require_function_name(path: str, *, setting: str) -> None:
    """Refuse what cannot be the name of a function, before anything is imported.

    Args:
        path: `package.module:function` or `file.py:function`.
        setting: What the message calls it.

    Raises:
        ConfigError: It is neither.
    """
    place, _, function = path.rpartition(":")
    if not place or not function.isidentifier():
        raise ConfigError(f"{setting} {path!r} names no function: expected 'package.module:function' or 'file.py:function'.")


def named_function(path: str, *, role: str) -> Callable[..., Any]:
    """The function of that name; importing its module runs code in this process.

    Args:
        path: `package.module:function` or `file.py:function`.
        role: What the function is to the run, for messages and for the name of a file's module.

    Raises:
        ConfigError: The module or file is missing or cannot be imported, or it has no such function.
    """
    place, _, name = path.rpartition(":")
    try:
        module = _load_file(Path(place), role) if place.endswith(".py") else importlib.import_module(place)
    except ConfigError:
        raise
    except Exception as error:  # a module may raise anything while it is imported
        raise ConfigError(
            f"The {role}'s module {place!r} cannot be imported: {type(error).__name__}: {error}. "
            "Mend it, install what it imports, or give the path of a file as 'file.py:function'."
        ) from error
    function = vars(module).get(name)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(
            f"{place!r} has no function {name!r}{nearest(name, known)}. It has {', '.join(known) or 'nothing to call'}."
        )
    return function


def _load_file(path: Path, role: str) -> Any:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"There is no file {str(path)!r} for the {role}. Give an existing Python file as 'file.py:function'.")
    name = f"{role}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look their module up there
    spec.loader.exec_module(module)
    return module
