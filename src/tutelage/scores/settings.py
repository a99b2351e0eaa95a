"""Whether and where a run keeps what its teachers said: a setting of the run, not of the method."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreCache:
    """A folder of teachers' scores, which runs may share."""

    folder: str
    """Folder of the cache; made where it does not exist."""
    mode: Literal["online", "offline"] = "online"
    """`online` asks the teacher for what is missing and keeps it; `offline` never loads the teacher, and what is missing stops
    the run."""
    max_gib: float = 64.0
    """Size that the scores stay within, in GiB; the least recently used go first."""
    k: int = 32
    """Likeliest entries that are kept per token, where the recipe needs more than the written token's own."""
    hidden: bool = False
    """Keep the teacher's hidden states where the recipe needs its whole distribution: thousands of bytes per token."""

    def __post_init__(self) -> None:
        if not self.folder:
            raise ConfigError("The score cache needs a folder: --scores.folder FOLDER.")
        if self.max_gib <= 0.0 or self.k < 1:
            raise ConfigError(f"ScoreCache needs max_gib > 0 and k >= 1, got {self.max_gib!r} and {self.k!r}.")

    @property
    def max_bytes(self) -> int:
        """The bound in bytes."""
        return int(self.max_gib * 2**30)
