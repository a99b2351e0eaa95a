"""Where examples come from, and how they are read."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tutelage.data.columns import CANONICAL, examples_of
from tutelage.data.readers import FILE_READERS, Row, read_data_set
from tutelage.errors import ConfigError, DataError, nearest
from tutelage.types import Example

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """A file, a folder or a data set, and which of its columns mean what."""

    path: str
    """A `.jsonl`, `.json` or `.parquet` file; a folder; or the id of a data set on the hub."""
    split: str = "train"
    """Split of a folder or hub data set, slices such as `train[:500]` included. A single file has none."""
    configuration: str | None = None
    """Named configuration of a hub data set, where it has several."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """Canonical column -> column in the source, for example `{"prompt": "question"}`. Names that agree need no entry."""
    start: int = 0
    """Rows passed over at the beginning, for example to hold them out."""
    limit: int | None = None
    """Rows read after those; None reads all."""

    def __post_init__(self) -> None:
        for canonical in self.columns:
            if canonical not in CANONICAL:
                raise ConfigError(
                    f"DataSource.columns maps {canonical!r}, which is no canonical column{nearest(canonical, CANONICAL)}. "
                    f"Canonical columns are {', '.join(CANONICAL)}; every other column is passed on under its own name."
                )
        if self.start < 0 or (self.limit is not None and self.limit < 1):
            raise ConfigError(f"DataSource needs start >= 0 and limit >= 1 (or none), got {self.start!r} and {self.limit!r}.")


def load(source: DataSource, *, require: Collection[str] = ()) -> list[Example]:
    """The examples of a source, in its order.

    Args:
        source: What to read.
        require: Canonical columns that at least one row must have, besides the prompt that every row must have. Rows
            that lack one are left to whoever needs it, because some parts of a run pass over such rows.

    Returns:
        One example per row, at least one, with unique ids.

    Raises:
        DataError: The source is missing, unreadable or empty; a line is not JSON (with its number); a column is missing
            (with those that exist) or holds something else than it should (with the row).
    """
    name, rows = _open(source)
    last = None if source.limit is None else source.start + source.limit
    chosen = list(islice(rows, source.start, last))
    if not chosen:
        reason = "no row" if source.start == 0 else f"no row after the first {source.start}"
        raise DataError(f"{name} has {reason}: a run needs at least one prompt. Check the file, `split`, `start` and `limit`.")
    examples = examples_of(chosen, name=name, columns=source.columns, require=require, first_row=source.start)
    _LOG.info("Read %d examples from %s.", len(examples), name)
    return examples


def _open(source: DataSource) -> tuple[str, Iterator[Row]]:
    path = Path(source.path).expanduser()
    reader = FILE_READERS.get(path.suffix.lower())
    if reader is None and path.is_file():
        raise DataError(
            f"{source.path!r} ends in {path.suffix!r}, which names no format that can be read. "
            f"Use one of {', '.join(FILE_READERS)}, or a folder that the `datasets` package can read."
        )
    if reader is None or path.is_dir():
        return source.path, read_data_set(
            source.path, split=source.split, configuration=source.configuration, revision=source.revision
        )
    if not path.is_file():
        raise DataError(_missing(path))
    if source.split != "train" or source.configuration is not None or source.revision is not None:
        raise DataError(
            f"{path.name} is a single file: it has no split, configuration or revision, but "
            f"split={source.split!r}, configuration={source.configuration!r} and revision={source.revision!r} were given. "
            "Leave them out, and use `start` and `limit` to take a part."
        )
    return path.name, reader(path)


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return (
            f"There is no file {str(path)!r}, nor a folder {str(folder)!r}. Check the path; it is read from where you started."
        )
    beside = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in FILE_READERS)
    return (
        f"There is no file {str(path)!r}{nearest(path.name, beside)}. Data files in that folder: {', '.join(beside) or 'none'}."
    )
