import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tutelage.data import DataSource, load
from tutelage.errors import ConfigError, DataError

ROWS = [
    {"question": "1+1", "final": 2, "working": "one and one", "level": 1},
    {"question": "2+2", "final": 4, "working": "two and two", "level": 2},
    {"question": "3+3", "final": 6, "working": "three and three", "level": 3},
]
COLUMNS = {"prompt": "question", "answer": "final", "solution": "working"}


def write_jsonl(path: Path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_json(path: Path, rows) -> str:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def write_parquet(path: Path, rows) -> str:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


WRITERS = {"jsonl": write_jsonl, "json": write_json, "parquet": write_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_columns_arrive_under_their_canonical_names_from_every_format(tmp_path, suffix):
    path = WRITERS[suffix](tmp_path / f"sums.{suffix}", ROWS)
    examples = load(DataSource(path=path, columns=COLUMNS))
    assert [example.prompt for example in examples] == ["1+1", "2+2", "3+3"]
    assert [example.answer for example in examples] == ["2", "4", "6"]
    assert [example.solution for example in examples] == ["one and one", "two and two", "three and three"]
    assert [dict(example.extra) for example in examples] == [{"level": 1}, {"level": 2}, {"level": 3}]
    assert [example.id for example in examples] == [f"sums.{suffix}:{row}" for row in range(3)]


def test_a_folder_is_read_by_its_split(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "sums").mkdir()
    write_jsonl(tmp_path / "sums" / "train.jsonl", ROWS)
    write_jsonl(tmp_path / "sums" / "test.jsonl", ROWS[:1])
    source = DataSource(path=str(tmp_path / "sums"), columns=COLUMNS)
    assert [example.prompt for example in load(source)] == ["1+1", "2+2", "3+3"]
    held_out = DataSource(path=str(tmp_path / "sums"), columns=COLUMNS, split="test")
    assert [example.prompt for example in load(held_out)] == ["1+1"]


def test_a_data_set_saved_to_disk_is_read_by_its_split(tmp_path):
    import datasets

    datasets.DatasetDict({"held_out": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "saved"))
    examples = load(DataSource(path=str(tmp_path / "saved"), split="held_out", columns=COLUMNS))
    assert [example.answer for example in examples] == ["2", "4", "6"]
    with pytest.raises(DataError, match=r"no split 'heldout' \(did you mean 'held_out'\?\)"):
        load(DataSource(path=str(tmp_path / "saved"), split="heldout", columns=COLUMNS))


def test_start_and_limit_take_a_part_and_keep_the_row_numbers(tmp_path):
    path = write_jsonl(tmp_path / "sums.jsonl", ROWS)
    part = load(DataSource(path=path, columns=COLUMNS, start=1, limit=1))
    assert [(example.id, example.prompt) for example in part] == [("sums.jsonl:1", "2+2")]
    rest = load(DataSource(path=path, columns=COLUMNS, start=2))
    assert [example.prompt for example in rest] == ["3+3"]


def test_a_limit_does_not_read_what_lies_behind_it(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text('{"prompt": "1+1"}\nnot json\n')
    assert [example.prompt for example in load(DataSource(path=str(path), limit=1))] == ["1+1"]


def test_a_bad_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text('{"prompt": "1+1"}\n\n{"prompt": "2+2"\n{"prompt": "3+3"}\n')
    with pytest.raises(DataError, match=r"sums\.jsonl, line 3: this is not JSON"):
        load(DataSource(path=str(path)))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'["prompt"]', "found a list where an object"),
        (b'"prompt"', "found a text where an object"),
        (b"3", "found a number where an object"),
        (b"null", "found null where an object"),
        (b'{"prompt": "\xff"}', "is not UTF-8"),
        (b'{"prompt": ' + b"[" * 100_000, "cannot be read"),
        (b'{"prompt": ' + b"9" * 5_000 + b"}", "cannot be read"),
    ],
)
def test_a_line_that_is_no_row_is_named_by_its_number(tmp_path, line, says):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "fine"}\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: .*{says}"):
        load(DataSource(path=str(path)))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "1+1"}\r\n{"prompt": "2+2"}\r\n')
    assert [example.prompt for example in load(DataSource(path=str(path)))] == ["1+1", "2+2"]


def test_json_lines_under_the_name_json_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "sums.json"
    path.write_text('{"prompt": "1+1"}')
    with pytest.raises(DataError, match=r"sums\.json holds an object .* ends in \.jsonl"):
        load(DataSource(path=str(path)))


def test_a_missing_column_is_named_with_those_that_exist_and_the_nearest(tmp_path):
    path = write_jsonl(tmp_path / "sums.jsonl", ROWS)
    with pytest.raises(DataError, match=r"no column 'questoin' \(did you mean 'question'\?\).*question, final, working, level"):
        load(DataSource(path=path, columns={"prompt": "questoin"}))


def test_a_source_without_a_prompt_says_how_to_name_one(tmp_path):
    path = write_jsonl(tmp_path / "sums.jsonl", ROWS)
    with pytest.raises(DataError, match=r"neither a column 'prompt' nor 'messages'.*question, final.*columns="):
        load(DataSource(path=path))


@pytest.mark.parametrize("column", ["solution", "privileged_context", "response"])
def test_a_required_column_that_is_missing_is_refused(tmp_path, column):
    path = write_jsonl(tmp_path / "sums.jsonl", ROWS)
    with pytest.raises(DataError, match=rf"no column '{column}'.*question, final, working, level"):
        load(DataSource(path=path, columns={"prompt": "question"}), require=[column])


def test_a_required_column_that_is_empty_everywhere_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "sums.jsonl", [{"prompt": "1+1", "solution": None}])
    with pytest.raises(DataError, match="'solution', but it is empty in every row"):
        load(DataSource(path=path), require=["solution"])


def test_a_required_column_may_be_missing_from_some_rows(tmp_path):
    path = write_jsonl(tmp_path / "sums.jsonl", [{"prompt": "1+1"}, {"prompt": "2+2", "solution": "four"}])
    assert [example.solution for example in load(DataSource(path=path), require=["solution"])] == [None, "four"]


def test_the_response_of_messages_meets_a_required_response(tmp_path):
    turns = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]
    path = write_jsonl(tmp_path / "sums.jsonl", [{"messages": turns}])
    assert load(DataSource(path=path), require=["response", "prompt"])[0].response == "2"


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_source_without_rows_is_refused(tmp_path, suffix):
    path = WRITERS[suffix](tmp_path / f"empty.{suffix}", [])
    with pytest.raises(DataError, match="has no row"):
        load(DataSource(path=path))


def test_a_start_behind_the_last_row_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "sums.jsonl", ROWS)
    with pytest.raises(DataError, match="no row after the first 3"):
        load(DataSource(path=path, start=3))


def test_a_missing_file_is_named_with_its_neighbours(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(DataError, match=r"no file .*trian\.jsonl' \(did you mean 'train\.jsonl'\?\)"):
        load(DataSource(path=str(tmp_path / "trian.jsonl")))
    with pytest.raises(DataError, match="nor a folder"):
        load(DataSource(path=str(tmp_path / "nowhere" / "train.jsonl")))


def test_a_file_of_another_kind_is_refused_with_those_that_can_be_read(tmp_path):
    (tmp_path / "sums.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"ends in '\.xlsx'.*\.jsonl, \.json, \.parquet"):
        load(DataSource(path=str(tmp_path / "sums.xlsx")))


def test_a_data_set_that_nobody_knows_is_refused_without_a_network():
    with pytest.raises(DataError, match="could not be loaded as a folder or hub data set"):
        load(DataSource(path="nobody/knows-this"))


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = Path(write_parquet(tmp_path / "sums.parquet", ROWS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"sums\.parquet cannot be read as Parquet"):
        load(DataSource(path=str(path), columns=COLUMNS))


def test_a_split_of_a_single_file_is_refused_instead_of_ignored(tmp_path):
    path = write_jsonl(tmp_path / "sums.jsonl", ROWS)
    with pytest.raises(DataError, match="no split, configuration or revision"):
        load(DataSource(path=path, split="test", columns=COLUMNS))


def test_an_unknown_canonical_column_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'promt', which is no canonical column \(did you mean 'prompt'\?\)"):
        DataSource(path="sums.jsonl", columns={"promt": "question"})


@pytest.mark.parametrize("bad", [{"start": -1}, {"limit": 0}])
def test_a_part_that_cannot_be_is_refused(bad):
    with pytest.raises(ConfigError, match="start >= 0 and limit >= 1"):
        DataSource(path="sums.jsonl", **bad)
