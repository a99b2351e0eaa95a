"""Scores in a folder that any number of runs may share."""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import pyarrow as pa

from tutelage.errors import CacheError
from tutelage.scores.encoding import Entry
from tutelage.scores.merging import MERGED_BYTES, SHARE_OF_BOUND, copies, groups, read_whole, write_merged
from tutelage.scores.shards import (
    ROWS_AT_ONCE,
    Shard,
    is_whole,
    list_names,
    list_shards,
    read_columns,
    read_rows,
    remove_abandoned,
    write_shard,
)

Listed = TypeVar("Listed", Shard, str)

_LOG = logging.getLogger(__name__)

GROUPS_IN_MEMORY = 64
"""Groups of entries that were read last and are kept decoded."""
MERGED_AT_ONCE = 64
"""Small shards that a writer lets gather before it merges them."""
LOOKS = 8
"""How often scores are looked for that somebody else is moving meanwhile."""


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
        self._moved, self._may_merge = False, True
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
            found = dict[bytes, Entry]()
            for _ in range(LOOKS):
                self._moved = False
                wanted = [key for key in keys if key not in found]
                if any(key not in self._places for key in wanted):
                    self._look_again()
                for key in sorted(wanted, key=lambda key: self._places.get(key, ("", 0))):  # so that each group is read once
                    while (place := self._places.get(key)) is not None and key not in found:
                        if (entry := self._read(*place)) is not None:
                            found[key] = entry
                if not self._moved:
                    break
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
            with suppress(OSError):  # the scores are safe in many files as well
                self.merge(at_least=MERGED_AT_ONCE)

    def shards(self) -> list[Shard]:
        """All shards, least recently used first.

        Raises:
            CacheError: The folder is there and cannot be read.
        """
        return self._reading(list_shards)

    def _reading(self, listing: Callable[[Path], list[Listed]]) -> list[Listed]:
        try:
            return listing(self._shards)
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

    def merge(self, *, at_least: int = 1) -> int:
        """Make few shards of many small ones. What is killed meanwhile leaves scores twice, never none.

        Args:
            at_least: Small shards from which on it is worth it.

        Returns:
            How many shards there were of what now lies in fewer.

        Raises:
            OSError: A merged shard could not be written; all scores are where they were.
        """
        with self._lock:
            if not self._may_merge:
                return 0
            shards = self.shards()
            doubled = copies(shards)
            single = [shard for shard in shards if shard.name not in doubled]
            planned = groups(single, most_bytes=min(MERGED_BYTES, self.max_bytes // SHARE_OF_BOUND))
            if len(doubled) + sum(len(group) for group in planned) < at_least:
                return 0
            dropped = [name for name, later in doubled.items() if self._is_there(later)]
            for name in dropped:
                self._drop(name)
            return len(dropped) + sum(self._merge([shard.name for shard in group]) for group in planned)

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
        there = self._reading(list_names)
        for name in there:
            if name not in self._keys:
                try:
                    self._index(name)
                except FileNotFoundError:  # evicted or merged by somebody else in this moment
                    self._moved = True
        for name in self._keys.keys() - set(there):  # last, so that what has moved is known by then
            self._forget(name)

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
            except FileNotFoundError:  # evicted or merged by another process
                self._moved = True
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

    def _merge(self, names: list[str]) -> int:
        """How many of some shards are one now."""
        read = {name: table for name in names if (table := self._whole_table(name)) is not None}
        if len(read) < 2:
            return 0
        try:
            merged, keys = write_merged(self._shards, read)
        except FileNotFoundError:  # somebody else was quicker
            return 0
        self._add(merged.name, keys)
        for name in read:
            self._drop(name)
        # where others' files cannot be removed each try would leave another copy
        self._may_merge = not any((self._shards / name).exists() for name in read)
        return len(read)

    def _whole_table(self, name: str) -> pa.Table | None:
        try:
            return read_whole(self._shards / name)
        except FileNotFoundError:
            self._forget(name)
        except (CacheError, OSError) as error:
            self._condemn(name, error)
        return None

    def _is_there(self, name: str) -> bool:
        """Whether a shard can be read now and is whole."""
        try:
            return is_whole(self._shards / name)
        except OSError:
            return False

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
