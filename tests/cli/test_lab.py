"""`tutelage lab exact`."""

import json

import pytest

from tutelage.cli import lab
from tutelage.cli.main import main
from tutelage.lab.exact import Size, compare, obstacle
from tutelage.recipes import REGISTRY, gkd

SMALL = ["--vocab", "3", "--length", "2"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["lab", *arguments]) == 0
    return capsys.readouterr().out


def test_without_a_tool_the_help_is_printed(capsys):
    assert printed(capsys).startswith("usage: tutelage lab exact")


def test_every_recipe_has_a_row_and_plain_opd_is_the_first(capsys):
    shown = printed(capsys, "exact", *SMALL).splitlines()
    header = next(number for number, line in enumerate(shown) if line.startswith("recipe"))
    rows = [line.split() for line in shown[header + 1 :]]
    names = [row[0] for row in rows[: rows.index([])]]
    assert names[0] == "opd"
    assert sorted(names) == sorted(name for name, entry in REGISTRY.items() if obstacle(entry.recipe()) is None)
    assert all(line in shown for line in lab.LEGEND.splitlines())
    assert "vopd: StudentKLBaseline.k lowered from 100 to 3." in shown
    assert "tropd: schedules as at step 200." in shown
    assert all(len(line) <= 128 for line in shown)


def test_json_holds_the_numbers_of_the_function(capsys):
    found = json.loads(printed(capsys, "exact", *SMALL, "--recipe", "gkd", "--seed", "3", "--end", "--json"))
    assert found == lab.as_json(compare([gkd()], size=Size(vocab=3, length=2, end=True), seed=3))
    assert [row["recipe"] for row in found["rows"]] == ["opd", "gkd"]
    assert found["size"] == {"vocab": 3, "length": 2, "end": True, "num_prompts": 1}


def test_what_is_no_number_is_null(capsys):
    found = json.loads(printed(capsys, "exact", *SMALL, "--recipe", "opd", "--distance", "0", "--json"))
    assert found["rows"][0]["token_bias"]["relative"] is None
    assert found["value"] == pytest.approx(0.0, abs=1e-15)


def test_knobs_and_settings_of_recipes_are_laid_over_all_that_are_named(capsys):
    arguments = ["exact", *SMALL, "--recipe", "gkd", "--knobs.beta", "1", "--knobs.student-fraction", "1", "--json"]
    _, full = json.loads(printed(capsys, *arguments))["rows"]
    assert full["token_bias"]["norm"] < 1e-12
    _, halved = json.loads(printed(capsys, *arguments, "--recipe.terms.0.scale", "0.5"))["rows"]
    assert halved["gradient_norm"] == pytest.approx(full["gradient_norm"] / 2)


def test_a_settings_file_stands_for_the_recipe_in_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(  # a file for `tutelage train`, of which only the recipe matters here
        'method = "gkd"\n\n[knobs]\nbeta = 1.0\nstudent_fraction = 1.0\n\n'
        '[student]\npath = "somewhere"\n\n[recipe]\nname = "mine"\n'
    )
    _, mine, opsd = json.loads(printed(capsys, "exact", *SMALL, "--recipe", "mine.toml, opsd", "--json"))["rows"]
    assert (mine["recipe"], opsd["recipe"]) == ("mine", "opsd")
    assert mine["token_bias"]["norm"] < 1e-12


def test_what_one_response_cannot_show_is_told(capsys):
    hidden = "which n 1 may hide"
    arguments = ["exact", *SMALL, "--recipe", "opd", "--knobs.discount", "1"]
    assert hidden in printed(capsys, *arguments)
    assert hidden not in printed(capsys, *arguments, "--n", "2")
    assert hidden not in printed(capsys, "exact", *SMALL, "--recipe", "opd")


def test_a_step_says_where_schedules_are_read(capsys):
    arguments = ["exact", *SMALL, "--recipe", "tropd", "--json"]
    (_, begun), (_, arrived) = (json.loads(printed(capsys, *arguments, *step))["rows"] for step in (["--step", "0"], []))
    assert (begun["step"], arrived["step"]) == (0, 200)
    assert begun["gradient_norm"] < 0.01 * arrived["gradient_norm"], "only the teacher's prefix, at a thousandth"


def test_the_plot_is_a_page_of_its_own(tmp_path, capsys):
    printed(capsys, "exact", *SMALL, "--recipe", "gkd", "--plot", str(tmp_path / "plot.html"))
    page = (tmp_path / "plot.html").read_text()
    assert all(name in page for name in ("opd: bias", "gkd: bias", "relative to opd"))
    assert main(["lab", "exact", *SMALL, "--recipe", "gkd", "--plot", str(tmp_path / "plot.png")]) == 2
    assert "does not end in .html" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exct"], "The lab has no 'exct' (did you mean 'exact'?)."),
        (["exact", "--recipe", "gkdd"], "There is no recipe 'gkdd' (did you mean 'gkd'?)."),
        (["exact", "--recipe", "gkd", "--knobs.bta", "1"], "has no knob 'bta' (did you mean 'beta'?)"),
        (["exact", "--recipe", "nowhere.toml"], "'nowhere.toml' cannot be read"),
        (["exact", "--n", "2", "--length", "4"], "65,536 outcomes of a step with vocab 4, length 4, n 2"),
        (["exact", "--n", "0"], "--n must be at least 1"),
        (["exact", "--vocab", "1"], "needs vocab >= 2"),
        (["exact", "--vocb", "3"], "'--vocb' is no setting of a recipe"),
        (["exact", "--optimiser.learning-rate", "3"], "'--optimiser.learning-rate' is no setting of a recipe"),
    ],
)
def test_what_cannot_be_done_ends_with_code_2_and_the_remedy(arguments, message, capsys):
    assert main(["lab", *arguments]) == 2
    assert message in capsys.readouterr().err
