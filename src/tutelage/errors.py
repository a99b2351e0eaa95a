"""The errors that this package raises on purpose. A message says what was found, what was expected, why, and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class TutelageError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(TutelageError, ValueError):
    """A setting is unknown or out of range, or two settings contradict each other."""


class DataError(TutelageError, ValueError):
    """A data file cannot be read, or a row lacks what the run needs."""


class ModelError(TutelageError, ValueError):
    """A model cannot be loaded, or is not of a kind that can be trained or scored."""


class PreflightError(ConfigError):
    """Student, teacher, data and recipe do not fit together."""


class TeacherError(TutelageError, RuntimeError):
    """A teacher did not give the supervision that it promised."""


class ServerError(TutelageError, RuntimeError):
    """A server cannot be reached, failed, or gave a reply that is not what it was asked for."""


class VerifierError(TutelageError, RuntimeError):
    """A verifier raised, or returned something that is not a verdict."""


class RolloutError(TutelageError, RuntimeError):
    """An environment raised, or returned something that is no reply."""


class NumericsError(TutelageError, ArithmeticError):
    """A loss, logit or gradient is not finite."""


class CheckpointError(TutelageError, RuntimeError):
    """A run folder or checkpoint is missing, foreign, damaged, or could not be written."""


class CacheError(TutelageError, RuntimeError):
    """A score cache cannot be read or written, or what lies in its folder is damaged or something else."""


class Interrupted(TutelageError):
    """The run was asked to stop; its state is saved."""


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known name that looks most like `name`, or nothing where none does."""
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
