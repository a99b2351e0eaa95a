"""Commands, start-up, exit codes, and what an error looks like."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import tutelage
from tutelage import errors
from tutelage.cli import recipes, report
from tutelage.cli.main import COMMANDS, EXIT_CODES, main
from tutelage.recipes import REGISTRY
from tutelage.teachers.parts import SelfTeacher

HEAVY = ("torch", "transformers", "datasets", "pydantic", "tutelage.types")
START_UP_SECONDS = 0.5
"""What a person takes for immediate; measured in processor time, which a busy machine does not stretch."""


def in_process(code: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(tutelage.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": source}, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        [],
        ["recipes"],
        ["recipes", "tropd"],
        ["recipes", "--json"],
        ["report", "--help"],
        ["lab"],
        ["lab", "exact", "--help"],
    ],
)
def test_what_only_reads_starts_without_torch(arguments):
    code = (
        "import sys, time\n"
        "from tutelage.cli.main import main\n"
        "try:\n"
        f"    code = main({arguments!r})\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(code, loaded, file=sys.stderr)\n"
    )
    found = in_process(code)
    assert found.stderr.strip() == "0 []"
    assert found.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["recipes"]])
def test_help_and_the_list_of_recipes_come_at_once(arguments):
    seconds = []
    for _ in range(3):
        before = os.times()
        in_process(f"import sys; from tutelage.cli.main import main; sys.exit(main({arguments!r}))")
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert sorted(seconds)[1] < START_UP_SECONDS


def test_every_command_is_there_and_named_in_the_help(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert "exit codes: 0 done" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: tutelage {name}")
    assert "--json" in shown


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"tutelage {tutelage.__version__}\n"


# ------------------------------------------------------------------------------------------------------------ exit codes


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(recipes, "run", run)


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TutelageError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_an_exit_code_and_no_traceback(kind, monkeypatch, capsys):
    failing(kind("What was found."), monkeypatch)
    code = main(["recipes"])
    assert code == next(code for known, code in EXIT_CODES.items() if issubclass(kind, known))
    assert code > 0
    captured = capsys.readouterr()
    assert captured.err.rstrip().endswith(": What was found.")
    assert "Traceback" not in captured.err
    assert not captured.out


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.TutelageError, 1),
        (errors.CheckpointError, 1),
        (errors.ConfigError, 2),
        (errors.PreflightError, 3),
        (errors.DataError, 3),
        (errors.ModelError, 3),
        (errors.NumericsError, 4),
        (errors.Interrupted, 5),
    ],
)
def test_the_codes_are_the_documented_ones(kind, code, monkeypatch):
    failing(kind("x"), monkeypatch)
    assert main(["recipes"]) == code


def test_an_interruption_is_no_error(monkeypatch, capsys):
    failing(errors.Interrupted("Saved."), monkeypatch)
    main(["recipes"])
    assert capsys.readouterr().err == "stopped: Saved.\n"


def test_stopping_at_once_has_the_shells_code(monkeypatch):
    failing(KeyboardInterrupt(), monkeypatch)
    assert main(["recipes"]) == 130


def test_a_full_disk_and_a_mistake_of_ours_are_told_in_words_too(monkeypatch, capsys):
    failing(OSError(28, "No space left on device"), monkeypatch)
    assert main(["recipes"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    failing(KeyError("vocab"), monkeypatch)
    assert main(["recipes"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: KeyError: 'vocab'.")
    assert "--debug" in shown


def test_debug_shows_where_it_came_from(monkeypatch, caplog):
    failing(errors.ConfigError("x"), monkeypatch)
    assert main(["recipes", "--debug"]) == 2
    assert caplog.records[-1].exc_info is not None


def test_an_error_as_json_is_one_object_on_standard_output(monkeypatch, capsys):
    failing(errors.DataError("Line 3 is no JSON."), monkeypatch)
    assert main(["recipes", "--json"]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"error": "DataError", "message": "Line 3 is no JSON.", "exit_code": 3}
    assert not captured.err


def test_a_reader_that_has_gone_is_no_error(monkeypatch):
    failing(BrokenPipeError(), monkeypatch)
    monkeypatch.setattr(sys, "stderr", open(os.devnull, "w"))  # noqa: SIM115  # the command closes it
    assert main(["recipes"]) == 0


# ------------------------------------------------------------------------------------------------------ wrong arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "opd"], "There is no command 'trian' (did you mean 'train'?). Commands: quickstart, train, eval,"),
        (["recipes", "tropdd"], "There is no recipe 'tropdd' (did you mean 'tropd'?). Recipes: sft, seq_kd,"),
        (["recipes", "--jsn"], "tutelage recipes has no argument '--jsn' (did you mean '--json'?)."),
        (["recipes", "opd", "gkd"], "tutelage recipes has no argument 'gkd'."),
        (["train", "tropdd"], "There is no recipe 'tropdd' (did you mean 'tropd'?)."),
        (["train", "gkd", "--knobs.beta", "1.5"], "beta must be in [0, 1], got 1.5"),
        (["train", "gkd", "--knobs.bta", "0.5"], "Recipe 'gkd' has no knob 'bta' (did you mean 'beta'?)."),
        (["train", "gkd", "--knobs.beta", "half"], "Knob 'beta' of recipe 'gkd': Input should be a valid number"),
        (["train", "opd", "--optimiser.learning-rat", "1"], "(did you mean 'optimiser.learning_rate'?)"),
        (["train"], "Name a recipe: tutelage train RECIPE"),
        (["train", "opd", "--config", "nowhere.toml"], "'nowhere.toml' cannot be read"),
        (["train", "--resume", "RUN", "--seed", "1"], "--resume continues a run with its own settings"),
        (["train", "opd", "--from", "RUN"], "--from takes the recipe of an earlier run"),
    ],
)
def test_wrong_commands_and_settings_end_with_code_2_and_the_remedy(arguments, message, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("x")
    for arguments in (["report", str(tmp_path)], ["train", "--from", str(tmp_path)], ["train", "--resume", str(tmp_path)]):
        assert main(arguments) == 1
        assert "is not the folder of a run" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------- recipes


def printed(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_recipes_are_listed_with_their_titles(capsys):
    shown = printed(["recipes"], capsys).splitlines()
    for name, entry in recipes.read_catalogue().items():
        assert any(line.startswith(f"{name} ") and entry["title"] in line for line in shown)


@pytest.mark.parametrize("name", recipes.read_catalogue())
def test_a_card_shows_everything_that_it_has(name, capsys):
    shown = " ".join(printed(["recipes", name], capsys).split())
    card = recipes.read_catalogue()[name]
    for part in ("title", "paper", "equation", "summary", "settings", "exact_check", "differs", "command"):
        assert " ".join(card[part].split()) in shown
    for knob in card["knobs"]:
        assert f"{knob['name']} = {knob['default']}" in shown
    assert all(need in shown for need in (*card["needs"], *card["verdicts"], *card["cost"]["generation"]))
    assert all(f"{axis}: {', '.join(kinds)}" in shown for axis, kinds in card["axes"].items() if kinds)
    assert all(row["claim"] in shown and row["verdict"] in shown for row in card["reproduction"])


def listed(capsys: pytest.CaptureFixture[str], *filters: str) -> set[str]:
    return set(json.loads(printed(["recipes", "--json", *filters], capsys)))


def test_filters_choose_by_what_a_recipe_is_made_of(capsys):
    made = {name: entry.recipe() for name, entry in REGISTRY.items()}
    assert listed(capsys, "--needs", "verifier") == {name for name, recipe in made.items() if recipe.verdicts}
    assert listed(capsys, "--needs", "correct") == {name for name, recipe in made.items() if "correct" in recipe.verdicts}
    weighed = {name for name, recipe in made.items() if any(term.weights for term in recipe.terms)}
    assert listed(capsys, "--axis", "weights") == weighed != set(made)
    alone = {name for name, recipe in made.items() if any(isinstance(part, SelfTeacher) for part in recipe.teachers.values())}
    assert listed(capsys, "--teacher", "self") == alone
    assert listed(capsys, "--teacher", "none") == {name for name, recipe in made.items() if not recipe.teachers}
    assert "opd" not in listed(capsys, "--axis", "rollouts") >= {"esr", "trb", "seq_kd"}


def test_several_filters_hold_at_once(capsys):
    both = listed(capsys, "--axis", "weights", "--teacher", "self")
    assert both == listed(capsys, "--axis", "weights") & listed(capsys, "--teacher", "self")
    assert both == listed(capsys, "--axis", "weights", "--axis", "teacher", "--teacher", "self")
    assert "sdpo" in both


def test_an_axis_is_told_beside_the_names(capsys):
    lines = printed(["recipes", "--axis", "weights"], capsys).splitlines()
    assert next(line for line in lines if line.startswith("tropd ")).endswith("weights: trust_mask")


def test_filters_that_nothing_passes_say_so(capsys):
    assert printed(["recipes", "--teacher", "routed", "--axis", "teacher_update"], capsys) == (
        "No method passes all of these filters.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--axis", "weight"], "--axis knows no 'weight' (did you mean 'weights'?). It knows: context, "),
        (["--needs", "verifer"], "--needs knows no 'verifer' (did you mean 'verifier'?)."),
        (["--teacher", "sell"], "--teacher knows no 'sell' (did you mean 'self'?)."),
        (["opd", "--axis", "weights"], "leave out 'opd', or them"),
    ],
)
def test_filters_that_mean_nothing_are_refused_with_what_there_is(arguments, message, capsys):
    assert main(["recipes", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_cards_are_printed_as_json(capsys):
    assert json.loads(printed(["recipes", "--json"], capsys)) == recipes.read_catalogue()
    assert json.loads(printed(["recipes", "opd", "--json"], capsys)) == recipes.read_catalogue()["opd"]


# ---------------------------------------------------------------------------------------------------------------- report


def test_report_hands_its_folders_on_and_says_where_it_wrote(monkeypatch, capsys):
    asked = []

    def write(run: Path, *, compare: Sequence[Path]) -> Path:
        asked.append((run, list(compare)))
        return run / "report.html"

    monkeypatch.setattr(report, "write_report", write)
    assert printed(["report", "a"], capsys) == "a/report.html\n"
    assert json.loads(printed(["report", "a", "--compare", "b", "c", "--json"], capsys)) == {"report": "a/report.html"}
    assert asked == [(Path("a"), []), (Path("a"), [Path("b"), Path("c")])]
