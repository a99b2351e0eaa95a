"""Where scores are kept: a folder that several runs may share (`disk.py`), or the memory of one run."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol, final, runtime_checkable

from tutelage.scores.encoding import Entry
from tutelage.scores.shards import decode, encode


@runtime_checkable
class ScoreStore(Protocol):
    """Scores by key."""

    def get(self, keys: Collection[bytes]) -> dict[bytes, Entry]:
        """Those of the entries that are there."""
        ...

    def put(self, entries: Mapping[bytes, Entry]) -> None:
        """Keep entries; once this returns they are as safe as the place itself.

        Raises:
            OSError: They could not be kept.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs and the place itself does not keep."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        ...


@final
class MemoryStore:
    """Entries of one run, which its checkpoints hold."""

    def __init__(self) -> None:
        """Nothing is there yet."""
        self._entries: dict[bytes, Entry] = {}

    def get(self, keys: Collection[bytes]) -> dict[bytes, Entry]:
        """Those of the entries that are there."""
        return {key: self._entries[key] for key in keys if key in self._entries}

    def put(self, entries: Mapping[bytes, Entry]) -> None:
        """Keep entries."""
        self._entries |= entries

    def state_dict(self) -> dict[str, Any]:
        """Every entry, encoded as in a shard."""
        return {"entries": encode(self._entries)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the entries of a saved run."""
        self._entries = decode(state["entries"])
