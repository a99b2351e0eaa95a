"""Training and evaluating from the command line, on a pair that is made on the spot."""

import json
from pathlib import Path

import pytest

from pairs import MAX_NEW_TOKENS, Pair, make_pair
from tutelage.cli.main import main

SHORT = ["--training.num-steps", "2", "--training.prompts-per-step", "2", "--optimiser.learning-rate", "1e-2"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def flags(pair: Pair) -> list[str]:
    return ["--student", str(pair.student), "--teacher", str(pair.teacher), "--data", str(pair.data)]


def knobs() -> list[str]:
    return ["--knobs.n", "2", "--knobs.max-new-tokens", str(MAX_NEW_TOKENS)]


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def run(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, started with flags and a file."""
    folder = tmp_path_factory.mktemp("runs")
    file = folder / "run.toml"
    file.write_text(
        f'[evaluation_data]\npath = "{pair.data}"\nstart = 8\n[verifier]\nkind = "exact_match"\n'
        f"[training]\nnum_steps = 9\n[evaluation]\nmax_new_tokens = {MAX_NEW_TOKENS}\n"
    )
    assert main(["train", "opd", *flags(pair), *knobs(), *SHORT, "--config", str(file), "--output", str(folder / "run")]) == 0
    return folder / "run"


def test_a_run_is_what_recipe_file_and_flags_say(run):
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["name"] == "opd"
    assert config["recipe"]["rollouts"]["sampling"]["n"] == 2
    assert config["training"]["num_steps"] == 2, "the flag beats the file"
    assert config["evaluation_data"]["start"] == 8
    assert (run / "report.html").is_file()


def test_from_repeats_a_run_with_changes(run, tmp_path, capsys):
    found = told(["train", "--from", str(run), "--training.num-steps", "1", "--output", str(tmp_path / "again")], capsys)
    assert Path(found["student"]).is_dir()
    assert found["run"] == str(tmp_path / "again")
    first, again = (json.loads((folder / "config.json").read_text()) for folder in (run, tmp_path / "again"))
    assert {key for key in first if first[key] != again[key]} == {"training", "output"}
    assert sorted(found["evaluations"]) == ["0", "1"]


def test_a_runs_own_configuration_is_a_configuration_file(run, tmp_path, capsys):
    arguments = ["train", "--config", str(run / "config.json"), "--output", str(tmp_path / "again"), "--dry-run"]
    stored = json.loads((run / "config.json").read_text())
    assert told(arguments, capsys) == stored | {"output": str(tmp_path / "again")}


def test_a_finished_run_resumes_to_its_end(run, capsys):
    before = (run / "metrics.jsonl").read_text()
    found = told(["train", "--resume", str(run)], capsys)
    assert found["run"] == str(run)
    assert (run / "metrics.jsonl").read_text() == before


def test_a_folder_with_a_run_is_not_written_over(run, pair, capsys):
    assert main(["train", "opd", *flags(pair), *knobs(), "--output", str(run)]) == 1
    assert "already holds a run" in capsys.readouterr().err


def test_results_are_shown_before_and_after(run, tmp_path, capsys):
    assert main(["train", "--from", str(run), "--training.num-steps", "1", "--output", str(tmp_path / "again")]) == 0
    shown = capsys.readouterr().out
    assert "before -> after" in shown
    assert "Greedy accuracy" in shown
    assert f"report   {tmp_path / 'again' / 'report.html'}" in shown


def test_a_student_is_evaluated_alone_or_against_a_teacher(run, pair, capsys):
    student = next(run.glob("checkpoints/*/student"))
    evaluation = [
        "--data",
        str(pair.data),
        "--evaluation.max-new-tokens",
        str(MAX_NEW_TOKENS),
        "--verifier.kind",
        "exact_match",
    ]
    alone = told(["eval", "--student", str(student), *evaluation], capsys)
    against = told(["eval", "--student", str(student), "--teacher", str(pair.teacher), *evaluation], capsys)
    assert "eval/reverse_kl_nats" not in alone["metrics"]
    low, high = against["intervals"]["eval/reverse_kl_nats"]
    assert low <= against["metrics"]["eval/reverse_kl_nats"] <= high
    assert alone["metrics"]["eval/greedy_accuracy_fraction"] == against["metrics"]["eval/greedy_accuracy_fraction"]


def test_an_evaluation_is_shown_with_its_intervals(pair, capsys):
    arguments = ["eval", "--student", str(pair.student), "--data", str(pair.data), "--evaluation.max-new-tokens", "3"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "Student entropy" in shown
    assert all("[" in line and line.endswith("]") for line in shown.splitlines())


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["--student", "nowhere"], 3, "'nowhere' does not exist"),
        (["--data", "nowhere.jsonl"], 3, "There is no file 'nowhere.jsonl'"),
        (["--teacher", ""], 3, "needs a teacher model"),
        (["--device", "cuda"], 2, "PyTorch sees no GPU"),
    ],
)
def test_a_run_that_cannot_start_ends_in_words_and_leaves_nothing(pair, tmp_path, capsys, changes, code, message):
    output = tmp_path / "run"
    assert main(["train", "opd", *flags(pair), *changes, "--output", str(output)]) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not output.exists()
