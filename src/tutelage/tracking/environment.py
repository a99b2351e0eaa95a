"""What a run ran on: enough to repeat it, and nothing that names a person or a place."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tutelage

_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "pyarrow",
    "pydantic",
    "math-verify",
)


def describe(*, seeds: Mapping[str, int]) -> dict[str, Any]:
    """Versions, git state, seeds and hardware as JSON-able values.

    Args:
        seeds: By what they seed.

    Returns:
        Graphics cards are listed only where torch is already imported, which a training run has done.
    """
    return {
        "tutelage": tutelage.__version__,
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "git": {"package": _git_of_package(), "working_folder": _git(Path.cwd())},
        "seeds": dict(seeds),
        "system": {"name": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "hardware": {
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": _memory_gib(),
            "gpus": _gpus(),
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_of_package() -> dict[str, Any] | None:
    """Only where the package is developed: an installed copy may lie inside a repository of something else."""
    file = Path(tutelage.__file__)
    return _git(file.parent) if _run_git(file.parent, "ls-files", file.name) else None


def _git(folder: Path) -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside a repository or without git."""
    commit = _run_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "changed": bool(_run_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _run_git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):  # not every system tells
        return None


def _gpus() -> list[dict[str, Any]]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [{"name": card.name, "memory_gib": round(card.total_memory / 2**30, 1)} for card in cards]
