"""Tables of evaluations: one parquet file per evaluation, one row per metric and held-out example.

They are what a metric of an evaluation is the mean of. Two runs that were evaluated on the same examples can be compared by
example, which is far sharper than comparing their intervals.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tutelage.errors import CheckpointError
from tutelage.tracking.files import write_whole

SCHEMA = pa.schema(
    [
        pa.field("metric", pa.string(), nullable=False),
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
    ]
)
"""Columns of a table."""

Values = Mapping[str, Mapping[str, tuple[float, float]]]
"""Metric -> id of an example -> its value, and its weight in the metric's mean."""


def write_values(path: Path, values: Values) -> None:
    """Write a table, whole or not at all.

    Raises:
        CheckpointError: It could not be written, for example on a full disk.
    """
    rows = [(metric, example, *pair) for metric, found in values.items() for example, pair in found.items()]
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA.names)
    table = pa.table(dict(zip(SCHEMA.names, map(list, columns), strict=True)), schema=SCHEMA)
    write_whole(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def read_values(path: Path) -> Values:
    """The values of a table.

    Raises:
        CheckpointError: The file is missing, damaged, or not a table of an evaluation.
    """
    try:
        columns = parquet.read_table(path, schema=SCHEMA).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise CheckpointError(
            f"The table of an evaluation {str(path)!r} cannot be read: {error}. Remove it; runs are then compared by the other "
            "evaluations."
        ) from error
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for metric, example, value, weight in zip(*(columns[name] for name in SCHEMA.names), strict=True):
        found.setdefault(metric, {})[example] = (value, weight)
    return found
