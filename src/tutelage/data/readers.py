"""Rows of files and data sets, as they stand there. What the columns mean is decided in `columns`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import DataError, nearest

Row = Mapping[str, Any]


def read_jsonl(path: Path) -> Iterator[Row]:
    """One object per line; blank lines are passed over.

    Raises:
        DataError: A line is not UTF-8, not JSON or not an object. The message has its number, counted from 1.
    """
    # Read as bytes: text mode would also break lines at carriage returns, and could not say in which line bad bytes stand.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _object(_parse(line, where=f"{path.name}, line {number}"), where=f"{path.name}, line {number}")


def read_json(path: Path) -> Iterator[Row]:
    """One array of objects.

    Raises:
        DataError: The file is something else.
    """
    rows = _parse(path.read_bytes(), where=path.name)
    if not isinstance(rows, list):
        raise DataError(
            f"{path.name} holds {_kind(rows)} where a list of rows was expected. "
            "Write `[{...}, {...}]`, or one object per line in a file that ends in .jsonl."
        )
    for number, row in enumerate(rows, start=1):
        yield _object(row, where=f"{path.name}, row {number}")


def read_parquet(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        DataError: The file is not Parquet, or damaged.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path.name} cannot be read as Parquet: {_first_line(error)} Was it written to its end? Make the file again."
        ) from error


def read_data_set(path: str, *, split: str, configuration: str | None, revision: str | None) -> Iterator[Row]:
    """The rows of one split of a folder or hub data set, read by the `datasets` package.

    Raises:
        DataError: There is no such folder, data set, configuration or split, or it cannot be read.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    folder = Path(path).expanduser()
    try:
        if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(str(folder))
            if isinstance(found, datasets.DatasetDict):
                found = found[_known(split, found, path)]
        else:
            target = str(folder) if folder.is_dir() else path
            found = datasets.load_dataset(target, name=configuration, split=split, revision=revision)
    except DataError:
        raise
    except (OSError, ValueError, DatasetsError) as error:
        raise DataError(
            f"{path!r} is no data file, and could not be loaded as a folder or hub data set "
            f"(split {split!r}, configuration {configuration!r}): {_first_line(error)} "
            "Check the name, the split and the network, or give a .jsonl, .json or .parquet file."
        ) from error
    return (dict(row) for row in found)


def _known(split: str, splits: Iterable[object], path: str) -> str:
    names = [str(name) for name in splits]
    if split not in names:
        raise DataError(f"{path!r} has no split {split!r}{nearest(split, names)}. Its splits are {', '.join(names)}.")
    return split


def _parse(text: bytes, *, where: str) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: this is not JSON ({error.msg} at character {error.pos + 1}): {_excerpt(text)}. "
            "A .jsonl file holds one complete object per line; a line that was cut in writing has to be removed or mended."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: this JSON cannot be read ({_first_line(error)}). Mend or remove it.") from error


def _object(row: Any, *, where: str) -> Row:
    if not isinstance(row, dict):
        raise DataError(
            f'{where}: found {_kind(row)} where an object with named columns was expected, such as {{"prompt": ...}}.'
        )
    return row


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _excerpt(text: bytes) -> str:
    shown = text.decode("utf-8", errors="replace").strip()
    return repr(shown if len(shown) <= 60 else f"{shown[:60]}...")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0].rstrip('.')}." if lines else f"{type(error).__name__}."


FILE_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
}
"""Suffix of a file name -> what reads it."""
