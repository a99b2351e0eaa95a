"""Small shards into fewer, larger ones, while anybody may read, write, merge or be killed; there is no lock for this either.

A merged shard is on the disk before what it was made of is removed, so that every score lies somewhere at any time. And what is
removed because its scores lie elsewhere as well lies in a shard with a *later name*: two processes that merge the same at the
same time each write a copy, and neither can remove what the other relies on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tutelage.errors import CacheError
from tutelage.scores.shards import Shard, content_of, digest_in, write_content

MERGED_BYTES = 16 * 2**20
"""Size that a merged shard stays within: it is evicted as a whole."""
SHARE_OF_BOUND = 64
"""A merged shard is at most one of so many parts of the cache's own bound, for the same reason."""


def groups(shards: Sequence[Shard], *, most_bytes: int) -> list[list[Shard]]:
    """Which shards become one: neighbours in the order of their last use, so that this order stays what it was.

    Args:
        shards: Least recently used first.
        most_bytes: Bound on the sum of a group; what is larger than half of it stays as it is, so that nothing is written anew
            for ever.
    """
    found, total = list[list[Shard]]([[]]), 0
    for shard in shards:
        is_large = 2 * shard.bytes > most_bytes
        if is_large or total + shard.bytes > most_bytes:
            found.append([])
            total = 0
        if not is_large:
            found[-1].append(shard)
            total += shard.bytes
    return [group for group in found if len(group) > 1]


def copies(shards: Sequence[Shard]) -> dict[str, str]:
    """Names of shards whose whole content should lie in another one, and the latest name of that."""
    newest = {digest_in(name): name for name in sorted(shard.name for shard in shards)}
    return {shard.name: later for shard in shards if (later := newest[digest_in(shard.name)]) != shard.name}


def read_whole(path: Path) -> pa.Table:
    """A shard's content.

    Raises:
        OSError: It cannot be read.
        CacheError: It is damaged.
    """
    content = path.read_bytes()
    if hashlib.blake2b(content, digest_size=16).hexdigest() != digest_in(path.name):
        raise CacheError("its content is not what its checksum says")
    return parquet.read_table(pa.BufferReader(content))


def write_merged(folder: Path, sources: Mapping[str, pa.Table]) -> tuple[Shard, list[bytes]]:
    """Write what lies in some shards as one; once this returns it is on the disk. The sources are still there.

    Args:
        folder: Of the shards.
        sources: Their content, by name.

    Returns:
        The new shard, which was last used when the latest of its sources was, and its keys.

    Raises:
        OSError: It could not be written, or a source has gone; nothing is left behind.
    """
    table = pa.concat_tables(list(sources.values()))
    keys = table["key"].to_pylist()
    first = {key: row for row, key in reversed(list(enumerate(keys)))}  # two runs may have asked for the same
    kept = sorted(first.values())
    used = max((folder / name).stat().st_mtime for name in sources)
    return write_content(folder, content_of(table.take(kept)), now=used, later_than=max(sources)), [keys[row] for row in kept]
