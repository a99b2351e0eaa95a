"""Where scores are kept: a folder that several runs may share, or the memory of one run."""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

from tutelage.errors import CacheError
from tutelage.scores.encoding import Entry
from tutelage.scores.shards import (
    ROWS_AT_ONCE,
    Shard,
    decode,
    encode,
    is_whole,
    list_shards,
    read_columns,
    read_rows,
    remove_abandoned,
    write_shard,
)

_LOG = logging.getLogger(__name__)

GROUPS_IN_MEMORY = 64
"""Groups of entries that were read last and are kept decoded."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a look at every shard found."""

    whole: int
    """Shards whose content is what was written."""
    damaged: tuple[str, ...]
    """Names of the others."""


@final
class DiskStore:
    """Shards in a folder. Any number of processes may read and write it at once; there is no lock that one could leave behind.

    A shard's checksum is verified when it is first read from. A damaged one is removed with a warning: its entries are then
    absent, and whoever asks for them has them computed again. When the folder outgrows its bound, the shards that were least
    recently used go first.
    """

    def __init__(self, folder: Path | str, *, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        """Open a folder, which need not exist yet.

        Args:
            folder: Of the cache; shards lie in `shards-1` below it, after the version of their format.
            max_bytes: Size that the shards together stay within; the newest one stays whatever its size.
            clock: What time it is, in seconds since 1970.
        """
        self.folder, self.max_bytes, self._clock = Path(folder), max_bytes, clock
        self._places: dict[bytes, tuple[str, int]] = {}
        self._keys: dict[str, list[bytes]] = {}
        self._verified: set[str] = set()
        self._decoded: OrderedDict[tuple[str, int], list[Entry]] = OrderedDict()
        self._lock = threading.RLock()
        remove_abandoned(self._shards, now=clock())

    @property
    def _shards(self) -> Path:
        return self.folder / "shards-1"

    def get(self, keys: Collection[bytes]) -> dict[bytes, Entry]:
        """Those of the entries that are there and whole.

        Raises:
            CacheError: The folder is there and cannot be read.
        """
        with self._lock:
            if any(key not in self._places for key in keys):
                self._look_again()
            found = dict[bytes, Entry]()
            for key in keys:
                while (place := self._places.get(key)) is not None and key not in found:
                    if (entry := self._read(*place)) is not None:
                        found[key] = entry
            return found

    def put(self, entries: Mapping[bytes, Entry]) -> None:
        """Write entries as one shard; once this returns they survive a kill and a loss of power.

        Raises:
            OSError: They could not be written, for example on a full disk or in a folder that is read-only.
        """
        if not entries:
            return
        with self._lock:
            shard = write_shard(self._shards, entries, now=self._clock())
            self._add(shard.name, list(entries))
            self.prune(self.max_bytes, keep=shard.name)

    def shards(self) -> list[Shard]:
        """All shards, least recently used first.

        Raises:
            CacheError: The folder is there and cannot be read.
        """
        try:
            return list_shards(self._shards)
        except OSError as error:
            raise CacheError(
                f"The score cache {str(self.folder)!r} cannot be read: {error.strerror or error}. Mend its permissions, or "
                "name another folder with --scores.folder."
            ) from error

    def prune(self, max_bytes: int, *, keep: str | None = None) -> int:
        """Remove least recently used shards until the others fit, and what killed writers left behind.

        Args:
            max_bytes: Size of what may stay.
            keep: Name of a shard that stays in any case.

        Returns:
            Bytes that were freed.
        """
        with self._lock:
            remove_abandoned(self._shards, now=self._clock())
            shards, freed = self.shards(), 0
            total = sum(shard.bytes for shard in shards)
            for shard in shards:
                if total - freed > max_bytes and shard.name != keep:
                    self._drop(shard.name)
                    freed += shard.bytes
            return freed

    def verify(self, *, drop: bool) -> Verified:
        """Compare every shard with its checksum; `drop` removes the damaged ones."""
        with self._lock:
            shards = self.shards()
            damaged = [shard.name for shard in shards if not self._reads_whole(shard.name)]
            for name in damaged if drop else ():
                self._drop(name)
            return Verified(whole=len(shards) - len(damaged), damaged=tuple(damaged))

    def state_dict(self) -> dict[str, Any]:
        """Empty: the folder keeps what is in it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to put back."""

    def _look_again(self) -> None:
        """Learn of shards that others have written or removed since."""
        there = [shard.name for shard in self.shards()]
        for name in self._keys.keys() - set(there):
            self._forget(name)
        for name in there:
            if name not in self._keys:
                with suppress(FileNotFoundError):  # evicted by somebody else in this moment
                    self._index(name)

    def _index(self, name: str) -> None:
        try:
            self._add(name, read_columns(self._shards / name, ["key"])["key"])
        except FileNotFoundError:
            raise
        except (CacheError, OSError) as error:
            self._condemn(name, error)

    def _add(self, name: str, keys: list[bytes]) -> None:
        self._keys[name] = keys
        self._places |= {key: (name, row) for row, key in enumerate(keys)}

    def _read(self, name: str, row: int) -> Entry | None:
        """An entry; None, and its shard is forgotten, where it is gone or damaged."""
        group = (name, row // ROWS_AT_ONCE)
        if group not in self._decoded:
            try:
                if name not in self._verified and not is_whole(self._shards / name):
                    raise CacheError("its content is not what its checksum says")
                self._decoded[group] = read_rows(self._shards / name, group[1])
            except FileNotFoundError:  # evicted by another process
                self._forget(name)
                return None
            except (CacheError, OSError) as error:
                self._condemn(name, error)
                return None
            self._verified.add(name)
            self._touch(name)
            if len(self._decoded) > GROUPS_IN_MEMORY:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(group)
        return self._decoded[group][row % ROWS_AT_ONCE]

    def _reads_whole(self, name: str) -> bool:
        try:
            return is_whole(self._shards / name)
        except OSError:  # removed by somebody else, or not ours to read, which is no damage
            return True

    def _touch(self, name: str) -> None:
        now = self._clock()
        with suppress(OSError):  # in a folder that is read-only nothing is evicted either
            os.utime(self._shards / name, (now, now))

    def _condemn(self, name: str, error: Exception) -> None:
        """Never read from a shard again; what is damaged is removed, what only could not be read stays."""
        _LOG.warning(
            "The shard %s of the score cache is dropped, and what was in it will be asked of the teacher again: %s.",
            self._shards / name,
            str(error).splitlines()[0].rstrip("."),
        )
        if self._reads_whole(name):
            self._forget(name)
        else:
            self._drop(name)
        self._keys[name] = []  # where it is still there it is not looked at again

    def _drop(self, name: str) -> None:
        self._forget(name)
        with suppress(OSError):
            (self._shards / name).unlink(missing_ok=True)

    def _forget(self, name: str) -> None:
        lost = {key for key in self._keys.pop(name, ()) if self._places.get(key, ("",))[0] == name}
        for key in lost:
            del self._places[key]
        for other, keys in self._keys.items() if lost else ():  # two runs may have asked for the same
            self._places |= {key: (other, row) for row, key in enumerate(keys) if key in lost}
        self._verified.discard(name)
        for group in [group for group in self._decoded if group[0] == name]:
            del self._decoded[group]
