"""The reproduction table on the command line; no run is started."""

import json

import pytest

from tutelage.cli import reproduce as command
from tutelage.cli.main import main
from tutelage.lab import reproduction
from tutelage.lab.reproduction import CLAIMS, FOLDER, FULL, MOST_SEEDS, QUICK, QUICK_FOLDER, Reproduction


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Reproduction]:
    """What the command hands on; the work itself is tested where it lives."""
    settings: list[Reproduction] = []

    def work(given: Reproduction, *, say: object):
        settings.append(given)
        return [given.table.row(claim) for claim in given.claims]

    monkeypatch.setattr(reproduction, "reproduce", work)
    return settings


def test_the_list_has_every_row_and_runs_nothing(tmp_path, asked, capsys):
    assert main(["reproduce", "--list", "--json", "--results", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["task"], row["metric"]) for row in found] == [(c.method, c.task, c.metric) for c in CLAIMS]
    assert asked == []
    assert list(tmp_path.iterdir()) == []


def test_flags_become_settings(asked, capsys):
    assert main(["reproduce", "--method", "vopd", "--task", "chain", "--seeds", "4", "--jobs", "2", "--retry"]) == 0
    assert main(["reproduce", "--quick"]) == 0
    one, quick = asked
    assert {(claim.method, claim.task) for claim in one.claims} == {("vopd", "chain")}
    assert (one.seeds, one.more_seeds, one.jobs, one.retry, one.folder, one.scale) == (4, MOST_SEEDS, 2, True, FOLDER, FULL)
    assert (quick.scale, quick.folder, quick.seeds, quick.more_seeds) == (QUICK, QUICK_FOLDER, 2, 2)
    assert {claim.method for claim in quick.claims} < {claim.method for claim in CLAIMS}
    printed = capsys.readouterr().out
    assert "runs are to be made next" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "vodp"], "did you mean 'vopd'"),
        (["--task", "chian"], "did you mean 'chain'"),
        (["--seeds", "0"], "A reproduction needs"),
        (["--fast"], "has no argument '--fast'"),
    ],
)
def test_a_wrong_value_is_explained(arguments, words, capsys):
    assert main(["reproduce", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_help_says_what_is_kept(capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    assert "not run again" in capsys.readouterr().out
    assert command.run.__doc__
