"""The doctor on the command line: words, JSON, and exit codes."""

import json

import pytest

from tutelage.cli.main import main


@pytest.fixture
def pair(data_folder, tmp_path) -> list[str]:
    """Flags that name a real student and two prompts."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Once upon a time"}\n{"prompt": "The cat"}\n')
    student = data_folder / "models" / "stories_student_40K"
    return ["doctor", "opd", "--student", str(student), "--data", str(prompts), "--answer-tokens", "16"]


def test_a_sound_pair_is_described(pair, data_folder, capsys):
    assert main([*pair, "--teacher", str(data_folder / "models" / "stories260K")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("The run can start.")
    assert "'<s> Once upon a time'" in printed
    assert "note: Only one side lists 1 ('<s>')" in printed


def test_a_diagnosis_can_be_read_by_programs(pair, data_folder, capsys):
    assert main([*pair, "--teacher", str(data_folder / "models" / "stories260K"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"]["vocab"] == 512
    assert found["report"]["stop_token_ids"] == [1, 2]
    assert found["figures"]["length_tokens"] <= 16
    assert found["contexts"] == {"unchanged: no context asked for": 2}


def test_what_cannot_run_is_said_in_words_with_its_exit_code(pair, capsys):
    assert main(pair) == 3
    captured = capsys.readouterr()
    assert captured.err.startswith("error: Recipe 'opd' needs a teacher model")
    assert "Traceback" not in captured.err
