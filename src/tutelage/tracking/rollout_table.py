"""Tables of rollouts: one parquet file per step, one row per rollout, one list entry per response token."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tutelage.errors import CheckpointError, DataError
from tutelage.tracking.files import write_whole

Values = Sequence[float]
"""One number per response token, NaN where it is not known; empty where it is known of none."""

_TOKEN_COLUMNS = (
    "tokens",
    "authors",
    "behaviour_log_probs",
    "student_log_probs",
    "teacher_log_probs",
    "reverse_kl_nats",
    "forward_kl_nats",
    "student_entropy_nats",
    "weights",
)

_REAL = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("finish", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("reward", pa.float64()),
        pa.field("correct", pa.bool_()),
        pa.field("feedback", pa.string()),
        pa.field("context", pa.string()),
        pa.field("prompt_ids", pa.list_(pa.int32())),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("tokens", pa.list_(pa.string()), nullable=False),
        pa.field("authors", pa.list_(pa.string()), nullable=False),
        *(pa.field(name, _REAL) for name in _TOKEN_COLUMNS[2:]),
    ]
)
"""Columns of a table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutRecord:
    """One rollout with its per-token records, as plain values."""

    step: int
    """Optimiser steps taken when it was trained on, that step included."""
    group: int
    """Rollouts of one prompt within a step share it."""
    example_id: str
    prompt: str
    response: str
    finish: str
    """`stop`, or `length` where the response was cut."""
    token_ids: Sequence[int]
    tokens: Sequence[str]
    """Text of each token; see `pieces`."""
    authors: Sequence[str]
    """Who chose each token: `student`, `teacher`, `dataset` or `none`."""
    behaviour_log_probs: Values = ()
    """Under the distribution that was sampled from."""
    student_log_probs: Values = ()
    teacher_log_probs: Values = ()
    reverse_kl_nats: Values = ()
    forward_kl_nats: Values = ()
    student_entropy_nats: Values = ()
    weights: Values = ()
    """Product of the token weights, summed over the terms; 0 where no term acts on the token."""
    prompt_ids: Sequence[int] = ()
    answer: str | None = None
    """Reference answer, where the data set has one."""
    reward: float | None = None
    correct: bool | None = None
    feedback: str | None = None
    context: str | None = None
    """What became of the teacher's privileged context, for example `injected:solution`."""

    def __post_init__(self) -> None:
        expected = len(self.token_ids)
        for name in _TOKEN_COLUMNS:
            if len(getattr(self, name)) not in ((expected,) if name in ("tokens", "authors") else (0, expected)):
                raise DataError(
                    f"A rollout of example {self.example_id!r} has {expected} tokens and {len(getattr(self, name))} entries in "
                    f"{name!r}. Give one entry per token, or none at all where nothing is known."
                )


def write_table(path: Path, records: Sequence[RolloutRecord]) -> None:
    """Write a table, whole or not at all.

    Raises:
        CheckpointError: It could not be written, for example on a full disk.
    """
    names = [field.name for field in fields(RolloutRecord)]
    columns = {name: [_to_column(name, getattr(record, name)) for record in records] for name in names}
    table = pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)
    write_whole(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def read_table(path: Path, *, rows: Sequence[int] | None = None) -> list[RolloutRecord]:
    """The rollouts of a table.

    Args:
        path: The table.
        rows: Which ones, all by default.

    Raises:
        CheckpointError: The file is missing, damaged, or not a table of rollouts.
    """
    try:
        table = parquet.read_table(path, schema=SCHEMA)
        chosen = (table if rows is None else table.take(list(rows))).to_pylist()
        return [RolloutRecord(**{name: _from_column(name, value) for name, value in row.items()}) for row in chosen]
    except (OSError, pa.ArrowException, TypeError, DataError) as error:
        raise _unreadable(path, error) from error


def read_groups(path: Path) -> list[int]:
    """The group of each rollout of a table.

    Raises:
        CheckpointError: The file is missing, damaged, or not a table of rollouts.
    """
    try:
        return parquet.read_table(path, columns=["group"])["group"].to_pylist()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise _unreadable(path, error) from error


def read_token_values(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One per-token column of a whole table, flat.

    Args:
        path: The table.
        name: Of the column.

    Returns:
        Position of each token in its response, and its value (NaN where it is not known); rollouts without the column are
        left out.

    Raises:
        CheckpointError: The file is missing, damaged, or not a table of rollouts.
    """
    try:
        column = parquet.read_table(path, columns=[name])[name].combine_chunks()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise _unreadable(path, error) from error
    lengths = np.diff(column.offsets.to_numpy())  # 0 where the rollout has no such column
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.arange(len(starts)) - starts, column.flatten().to_numpy(zero_copy_only=False)


def pieces(token_ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[str]:
    """The text that each token adds, such that the pieces joined are the decoded whole.

    Tokens are decoded together with the one before them, because many tokenizers write a token differently at the beginning
    of a text. A token that ends inside a character adds nothing; the one that completes the character adds all of it.

    Args:
        token_ids: Of one response.
        decode: Ids to text, special tokens included.
    """
    found: list[str] = []
    context, shown = 0, 0
    for end in range(1, len(token_ids) + 1):
        before, whole = decode(list(token_ids[context:shown])), decode(list(token_ids[context:end]))
        if whole.endswith("\ufffd") and end < len(token_ids):
            found.append("")
            continue
        found.append(whole[len(before) :])
        context, shown = shown, end
    return found


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The table of rollouts {str(path)!r} cannot be read: {error}. Remove it; the rest of the run does not need it."
    )


def _to_column(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return _storable(value)
    if name in ("tokens", "authors"):
        return [_storable(text) for text in value]
    if name in _TOKEN_COLUMNS:  # unknown numbers are null for other readers of the file
        return [None if math.isnan(number) else number for number in value] or None
    return list(value) if isinstance(value, Sequence) else value


def _from_column(name: str, value: Any) -> Any:
    if name in _TOKEN_COLUMNS[2:]:
        return tuple(math.nan if number is None else number for number in value or ())
    return tuple(value) if isinstance(value, list) else value


def _storable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
