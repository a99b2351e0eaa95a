import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tutelage.errors import CheckpointError, DataError
from tutelage.tracking.rollout_table import RolloutRecord, pieces, read_groups, read_table, read_token_values, write_table

FULL = RolloutRecord(
    step=2,
    group=3,
    example_id="a",
    prompt="4+",
    response="4+\n",
    finish="length",
    token_ids=(0, 1, 2),
    tokens=("4", "+", "\n"),
    behaviour_log_probs=(-0.5, math.nan, -0.25),
    student_log_probs=(-0.5, -1.0, -0.25),
    teacher_log_probs=(-0.25, -1.0, -0.5),
    reverse_kl_nats=(0.5, 0.0, 4.0),
    weights=(1.0, 0.0, 1.0),
    authors=["student", "teacher", "student"],
    prompt_ids=(7, 8),
    answer="4",
    reward=0.5,
    correct=True,
    feedback="good",
    context="injected:solution",
)


def assert_same(left: RolloutRecord, right: RolloutRecord) -> None:
    for name in RolloutRecord.__slots__:
        ours, theirs = getattr(left, name), getattr(right, name)
        if isinstance(ours, tuple) and ours and isinstance(ours[0], float):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)  # NaN equals NaN here
        else:
            assert ours == (tuple(theirs) if isinstance(theirs, list) else theirs), name


def test_records_are_read_as_they_were_written(tmp_path: Path, record):
    plain = record(["a"])
    write_table(tmp_path / "t.parquet", [FULL, plain])
    read = read_table(tmp_path / "t.parquet")
    assert_same(read[0], FULL)
    assert_same(read[1], plain)


def test_unknown_numbers_are_null_for_other_readers(tmp_path: Path, record):
    write_table(tmp_path / "t.parquet", [FULL, record(["a"])])
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table["behaviour_log_probs"].to_pylist() == [[-0.5, None, -0.25], None]


def test_some_rows_can_be_read_alone(tmp_path: Path, record):
    write_table(tmp_path / "t.parquet", [record([str(i)], group=i) for i in range(5)])
    assert [found.response for found in read_table(tmp_path / "t.parquet", rows=[4, 1])] == ["4", "1"]
    assert read_groups(tmp_path / "t.parquet") == [0, 1, 2, 3, 4]


def test_a_column_is_read_flat_with_positions_and_without_rollouts_that_lack_it(tmp_path: Path, record):
    records = [
        record(["a", "b"], reverse_kl_nats=(1.0, math.nan)),
        record(["c", "d", "e"]),
        record(["f", "g"], reverse_kl_nats=(3.0, 4.0)),
    ]
    write_table(tmp_path / "t.parquet", records)
    position, values = read_token_values(tmp_path / "t.parquet", "reverse_kl_nats")
    assert position.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(values, [1.0, math.nan, 3.0, 4.0])


def test_a_table_without_rollouts_is_a_table(tmp_path: Path):
    write_table(tmp_path / "t.parquet", [])
    assert read_table(tmp_path / "t.parquet") == []
    assert len(read_token_values(tmp_path / "t.parquet", "weights")[0]) == 0


@pytest.mark.parametrize("column", ["token_ids", "authors", "weights"])
def test_a_column_with_another_length_is_refused(column: str, record):
    with pytest.raises(DataError, match="one entry per token"):
        record(["a", "b"], **{column: {"token_ids": [1], "authors": ["student"], "weights": [1.0]}[column]})


@pytest.mark.parametrize("content", [b"", b"PAR1 something else", None])
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "step-000001.parquet"
    if content is not None:
        path.write_bytes(content)
    for read in (read_table, read_groups, lambda path: read_token_values(path, "weights")):
        with pytest.raises(CheckpointError, match=r"step-000001\.parquet"):
            read(path)


def test_a_table_of_something_else_is_named(tmp_path: Path):
    parquet.write_table(pa.table({"prompt": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(CheckpointError, match=r"t\.parquet"):
        read_table(tmp_path / "t.parquet")


def test_a_lone_surrogate_does_not_stop_a_table(tmp_path: Path, record):
    write_table(tmp_path / "t.parquet", [record(["\ud83d", "b"])])
    assert read_table(tmp_path / "t.parquet")[0].tokens == ("?", "b")


def test_pieces_joined_are_the_decoded_whole():
    text = "né 漢字 🙂!"
    content = text.encode()

    def decode(ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")

    found = pieces(list(content), decode)
    assert len(found) == len(content)
    assert "".join(found) == text
    assert found[:3] == ["n", "", "é"]  # the second byte of the letter brings all of it


def test_pieces_keep_the_space_that_a_tokenizer_drops_at_the_beginning_of_a_text():
    words = [" the", " cat", " sat"]

    def decode(ids: list[int]) -> str:
        return "".join(words[i] for i in ids).removeprefix(" ")

    assert pieces([0, 1, 2], decode) == ["the", " cat", " sat"]
