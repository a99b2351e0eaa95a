"""The loader on files as they are found in the world."""

import json
import re

import pytest

from tutelage.data import DataSource, load


def raw(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_gsm8k_is_read_with_its_answers_and_solutions(data_folder):
    path = data_folder / "gsm8k" / "test.jsonl"
    columns = {"prompt": "question", "answer": "final", "solution": "answer"}
    examples = load(DataSource(path=str(path), columns=columns), require=["answer", "solution"])
    rows = raw(path)
    assert [example.id for example in examples] == [row["id"] for row in rows]
    for example, row in zip(examples, rows, strict=True):
        assert (example.prompt, example.solution) == (row["question"], row["answer"])
        stated = re.search(r"#### (.*)", example.solution)
        assert stated is not None
        assert example.answer == stated[1].replace(",", "").strip()
        assert example.extra == {}


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        ("math/math500.jsonl", {"prompt": "problem"}),
        ("math/train_pool.jsonl", {"prompt": "problem"}),
        ("deepmath_prompts/prompts.jsonl", {"prompt": "problem"}),
        ("humaneval/HumanEval.jsonl", {"id": "task_id", "solution": "canonical_solution"}),
        ("mbpp_plus/MbppPlus_small.jsonl", {"id": "task_id", "solution": "canonical_solution"}),
        ("sciknoweval/physics_test.jsonl", {}),
        ("models/stories260K/samples_t1.jsonl", {"prompt": "text"}),
    ],
)
def test_every_row_and_every_column_arrives(data_folder, file, columns):
    path = data_folder / file
    examples, rows = load(DataSource(path=str(path), columns=columns)), raw(path)
    assert len(examples) == len(rows)
    assert len({example.id for example in examples}) == len(rows)
    fields = {"prompt", "response", "answer", "solution", "privileged_context", "teacher_id", "id"}
    names = {source: canonical for canonical, source in columns.items()}
    for example, row in zip(examples, rows, strict=True):
        for column, value in row.items():
            canonical = names.get(column, column)
            if value is None:
                assert column not in example.extra
            elif canonical in fields:
                assert getattr(example, canonical) == str(value)
            else:
                assert example.extra[column] == value
