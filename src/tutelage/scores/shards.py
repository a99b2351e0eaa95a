"""Files of scores: written once under a name that holds their own checksum, never changed, so that nobody needs a lock.

A shard is written under a temporary name, brought to the disk, and renamed. What has its final name is whole; whoever was
killed before left only a temporary file behind, which nobody reads. Names differ between writers and between writes.
"""

import hashlib
import io
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tutelage.errors import CacheError
from tutelage.scores.encoding import Entry
from tutelage.scores.key import KEY_BYTES

ROWS_AT_ONCE = 64
"""Responses that are read together."""
ABANDONED_SECONDS = 3600.0
"""Age from which on a temporary file is taken for what somebody left who was killed."""

LISTINGS = 8
"""How often a folder is listed again that somebody else changes all the time."""

_NAME = re.compile(r"[0-9]{20}-[0-9a-f]{8}-([0-9a-f]{32})\.parquet")
_TEMPORARY = ".writing"
_SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(KEY_BYTES), nullable=False),
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("request", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("top", pa.int32(), nullable=False),
        pa.field("sampled", pa.list_(pa.float32()), nullable=False),
        pa.field("ids", pa.list_(pa.int32()), nullable=False),
        pa.field("drops", pa.list_(pa.uint16()), nullable=False),
        pa.field("tail", pa.list_(pa.int16()), nullable=False),
        pa.field("hidden", pa.binary(), nullable=False),
        pa.field("hidden_dtype", pa.string(), nullable=False),
    ]
)
_NUMBERS = [f"{name}.list.element" for name in ("sampled", "ids", "drops", "tail")]
"""Columns whose bytes are split by their place in the number: those that hardly vary, most of an id's, then cost nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A file of scores on disk."""

    path: Path
    bytes: int
    used: float
    """When it was last written or read, in seconds since 1970."""

    @property
    def name(self) -> str:
        """Of the file; the same name is the same content."""
        return self.path.name


def write_shard(folder: Path, entries: Mapping[bytes, Entry], *, now: float) -> Shard:
    """Write some entries; once this returns they are on the disk.

    Raises:
        OSError: It could not be written, for example on a full disk; nothing is left behind.
    """
    return write_content(folder, encode(entries), now=now)


def write_content(folder: Path, content: bytes, *, now: float, later_than: str = "") -> Shard:
    """Write a shard's content; see `write_shard`.

    Args:
        folder: Of the shards.
        content: From `encode` or `content_of`.
        now: When it was last used.
        later_than: Name that the new one follows in their order, whatever this machine's clock says.
    """
    digest, written = hashlib.blake2b(content, digest_size=16).hexdigest(), time.time_ns()
    if later_than:
        written = max(written, int(later_than[:20]) + 1)
    final = folder / f"{written:020d}-{secrets.token_hex(4)}-{digest}.parquet"
    write_durably(final, content)
    with suppress(OSError):  # the time of use is a hint, the scores are safe
        os.utime(final, (now, now))
    return Shard(path=final, bytes=len(content), used=now)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent, and on the disk when this returns.

    Raises:
        OSError: It could not be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def list_names(folder: Path) -> list[str]:
    """Names of every shard of a folder, oldest first; none where there is no folder.

    A listing that somebody else changes meanwhile may hold neither a shard that is being removed nor the one that its scores
    moved to before; two in a row that are alike do.

    Raises:
        OSError: The folder cannot be read.
    """
    names = _listed(folder)
    for _ in range(LISTINGS):
        last, names = names, _listed(folder)
        if names == last:
            break
    return names


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return []


def list_shards(folder: Path) -> list[Shard]:
    """Every shard of a folder, least recently used first; none where there is no folder.

    Raises:
        OSError: The folder cannot be read.
    """
    found = list[Shard]()
    with suppress(FileNotFoundError), os.scandir(folder) as listing:
        for file in listing:
            if _NAME.fullmatch(file.name):
                with suppress(FileNotFoundError):  # somebody else has just removed it
                    status = file.stat()
                    found.append(Shard(path=Path(file.path), bytes=status.st_size, used=status.st_mtime))
    return sorted(found, key=lambda shard: (shard.used, shard.name))


def remove_abandoned(folder: Path, *, now: float) -> int:
    """Remove temporary files of writers that were killed, and return how many; a young one may belong to a living writer."""
    removed = 0
    for path in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError):
            if now - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink()
                removed += 1
    return removed


def is_whole(path: Path) -> bool:
    """Whether a shard's content is what its name says.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest() == digest_in(path.name)


def digest_in(name: str) -> str | None:
    """The checksum that a shard's name holds; None where it is no shard's name."""
    match = _NAME.fullmatch(name)
    return match[1] if match is not None else None


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Whole columns of a shard, such as its keys, without the scores.

    Raises:
        OSError: It cannot be read.
        CacheError: It is damaged.
    """
    try:
        return parquet.read_table(path, columns=list(names)).to_pydict()
    except (pa.ArrowException, KeyError) as error:
        raise CacheError(f"{str(path)!r} is damaged: {error}") from error


def read_rows(path: Path, place: int) -> list[Entry]:
    """One group of `ROWS_AT_ONCE` entries of a shard, the `place`-th.

    Raises:
        OSError: It cannot be read.
        CacheError: It is damaged.
    """
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read_row_group(place)
        return _decoded(table)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise CacheError(f"{str(path)!r} is damaged: {error}") from error


def encode(entries: Mapping[bytes, Entry]) -> bytes:
    """Entries by key as the content of a shard: a Parquet file."""
    return content_of(_table(entries) if entries else _SCHEMA.empty_table())


def content_of(table: pa.Table) -> bytes:
    """Rows of shards as the content of one."""
    buffer = io.BytesIO()
    parquet.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=["teacher", "request", "hidden_dtype"],  # pyright: ignore[reportArgumentType]  # stubs know flags only
        use_byte_stream_split=_NUMBERS,  # pyright: ignore[reportArgumentType]  # the same
        row_group_size=ROWS_AT_ONCE,
        write_statistics=False,
    )
    return buffer.getvalue()


def decode(content: bytes) -> dict[bytes, Entry]:
    """What `encode` was given."""
    table = parquet.read_table(io.BytesIO(content))
    return dict(zip(table["key"].to_pylist(), _decoded(table), strict=True))


def _table(entries: Mapping[bytes, Entry]) -> pa.Table:
    rows = list(entries.values())
    columns = {
        "key": list(entries),
        "top": [row.ids.shape[1] for row in rows],
        **{name: [getattr(row, name) for row in rows] for name in ("teacher", "request", "tokens", "hidden", "hidden_dtype")},
        **{name: _lists([getattr(row, name) for row in rows]) for name in ("sampled", "ids", "drops", "tail")},
    }
    return pa.table({name: columns[name] for name in _SCHEMA.names}, schema=_SCHEMA)


def _lists(arrays: Sequence[np.ndarray]) -> pa.ListArray:
    offsets = np.cumsum([0, *(array.size for array in arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate([array.ravel() for array in arrays])))


def _decoded(table: pa.Table) -> list[Entry]:
    if table.num_rows == 0:
        return []
    plain = {name: table[name].to_pylist() for name in ("teacher", "request", "tokens", "top", "hidden", "hidden_dtype")}
    lists = {name: _arrays(table[name]) for name in ("sampled", "ids", "drops", "tail")}
    return [
        Entry(
            teacher=plain["teacher"][row],
            request=plain["request"][row],
            tokens=plain["tokens"][row],
            sampled=lists["sampled"][row],
            ids=lists["ids"][row].reshape(_shape(plain, row)),
            drops=lists["drops"][row].reshape(_shape(plain, row)),
            tail=lists["tail"][row],
            hidden=plain["hidden"][row],
            hidden_dtype=plain["hidden_dtype"][row],
        )
        for row in range(table.num_rows)
    ]


def _shape(plain: Mapping[str, list[Any]], row: int) -> tuple[int, int]:
    """Shape of a response's likeliest entries; nothing by nothing where they were not asked for."""
    top = plain["top"][row]
    return (plain["tokens"][row] if top else 0, top)


def _arrays(column: pa.ChunkedArray) -> list[np.ndarray]:
    whole = column.combine_chunks()
    return np.split(whole.flatten().to_numpy(), whole.offsets.to_numpy()[1:-1] - whole.offsets[0].as_py())


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
