"""What the loader promises for every file, on files that nobody would write by hand."""

import json
import tempfile
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tutelage.data import DataSource, load
from tutelage.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # all of Unicode but halves of surrogate pairs
PROMPT = TEXT.filter(str.strip)
TURN = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "tool"]), "content": TEXT})
ROW = st.fixed_dictionaries(
    {"prompt": PROMPT},
    optional={
        "answer": st.none() | TEXT,
        "solution": st.none() | TEXT,
        "privileged_context": st.none() | TEXT,
        "teacher_id": st.none() | TEXT,
        "response": st.none() | TEXT,
        "hint": st.none() | TEXT,
        "level": st.none() | st.integers(-(2**53), 2**53),
        "tags": st.none() | st.lists(TEXT, max_size=3),
    },
)
ROWS = st.lists(ROW, min_size=1, max_size=8)
OPTIONAL = ("answer", "solution", "privileged_context", "teacher_id", "response")


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def jsonl(folder: Path, rows, *, escaped: bool = True) -> str:
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(json.dumps(row, ensure_ascii=escaped).encode() + b"\n" for row in rows))
    return str(path)


def as_values(examples):
    """Everything but the ids, which name the file."""
    return [(e.prompt, e.response, e.answer, e.solution, e.privileged_context, e.teacher_id, dict(e.extra)) for e in examples]


@given(rows=ROWS)
def test_every_text_arrives_unchanged(folder, rows):
    examples = load(DataSource(path=jsonl(folder, rows)))
    for example, row in zip(examples, rows, strict=True):
        assert example.prompt == row["prompt"]
        for column in OPTIONAL:
            assert getattr(example, column) == row.get(column)
        assert dict(example.extra) == {c: row[c] for c in ("hint", "level", "tags") if row.get(c) is not None}


@given(rows=ROWS)
def test_the_format_of_a_file_makes_no_difference(folder, rows):
    by_line = as_values(load(DataSource(path=jsonl(folder, rows))))
    assert as_values(load(DataSource(path=jsonl(folder, rows, escaped=False)))) == by_line
    array = folder / "rows.json"
    array.write_text(json.dumps(rows))
    assert as_values(load(DataSource(path=str(array)))) == by_line
    table = folder / "rows.parquet"
    columns = dict.fromkeys(column for row in rows for column in row)
    parquet.write_table(pyarrow.table({c: [row.get(c) for row in rows] for c in columns}), table)
    assert as_values(load(DataSource(path=str(table)))) == by_line


@given(rows=ROWS, start=st.integers(0, 9), limit=st.none() | st.integers(1, 9))
def test_a_part_of_a_file_is_that_part_of_its_examples(folder, rows, start, limit):
    path = jsonl(folder, rows)
    whole = load(DataSource(path=path))
    expected = whole[start:] if limit is None else whole[start : start + limit]
    if not expected:
        with pytest.raises(DataError, match="has no row"):
            load(DataSource(path=path, start=start, limit=limit))
    else:
        # columns that no row of the part has are not known to it, and change nothing
        assert load(DataSource(path=path, start=start, limit=limit)) == expected


@given(rows=ROWS, identities=st.lists(st.sampled_from(["a", "a#2", "b", "", "b#3", 1]), min_size=8, max_size=8))
def test_ids_are_unique_and_kept_where_they_were_first(folder, rows, identities):
    rows = [{**row, "id": identity} for row, identity in zip(rows, identities, strict=False)]
    found = [example.id for example in load(DataSource(path=jsonl(folder, rows)))]
    assert len(set(found)) == len(found)
    wanted = [str(row["id"]) or f"rows.jsonl:{number}" for number, row in enumerate(rows)]
    for number, identity in enumerate(wanted):
        if identity not in wanted[:number]:
            assert found[number] == identity


@given(before=st.lists(TURN, min_size=1, max_size=4), response=TEXT.filter(bool))
def test_a_conversation_is_cut_before_its_response_and_nowhere_else(folder, before, response):
    turns = [*before, {"role": "assistant", "content": response}]
    (example,) = load(DataSource(path=jsonl(folder, [{"messages": turns}])))
    assert [*map(dict, example.prompt), {"role": "assistant", "content": example.response}] == turns


@given(rows=ROWS, place=st.integers(0, 8), cut=st.integers(1, 8))
def test_a_line_that_was_cut_is_found_by_its_number(folder, rows, place, cut):
    lines = [json.dumps(row) for row in rows]
    place = min(place, len(lines) - 1)
    lines[place] = lines[place][: -min(cut, len(lines[place]) - 1)]
    path = folder / "cut.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"^cut\.jsonl, line {place + 1}: this is not JSON"):
        load(DataSource(path=str(path)))


@given(junk=st.binary(max_size=200), suffix=st.sampled_from([".jsonl", ".json", ".parquet"]))
def test_junk_is_refused_with_a_message_and_never_with_another_error(folder, junk, suffix):
    path = folder / f"junk{suffix}"
    path.write_bytes(junk)
    with pytest.raises(DataError, match="junk"):
        load(DataSource(path=str(path)))
