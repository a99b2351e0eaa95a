"""The quickstart on the command line: flags become settings, and the result is printed for people or programs."""

import json
from pathlib import Path

import pytest

from tutelage.cli import quickstart as command
from tutelage.cli.main import main
from tutelage.lab.quickstart import Line, Quickstart, QuickstartResult

RESULT = QuickstartResult(
    lines=(
        Line(name="student before", accuracy=0.25, interval=(0.125, 0.5), seconds=0.0),
        Line(name="distilled", accuracy=0.75, interval=(0.5, 0.875), seconds=12.0),
    ),
    report=Path("tour/distilled/report.html"),
    student=Path("tour/distilled/student"),
    folder=Path("tour"),
    seconds=34.0,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Quickstart]:
    """The settings that the command hands on; the tour itself is tested where it lives."""
    settings: list[Quickstart] = []

    def tour(given: Quickstart, *, say: object) -> QuickstartResult:
        settings.append(given)
        return RESULT

    monkeypatch.setattr(command, "quickstart", tour)
    return settings


def test_without_flags_the_defaults_run_and_the_result_is_a_table(asked: list[Quickstart], capsys: pytest.CaptureFixture[str]):
    assert main(["quickstart"]) == 0
    assert asked == [Quickstart()]
    printed = capsys.readouterr().out
    assert "75.0%  [50.0%, 87.5%]" in printed
    assert printed.endswith("report   tour/distilled/report.html\n")


def test_flags_become_settings(asked: list[Quickstart]):
    assert main(["quickstart", "--fresh", "--seed", "3", "--num-steps", "50", "--output", "there"]) == 0
    assert asked == [Quickstart(fresh=True, seed=3, num_steps=50, output="there")]


def test_the_result_can_be_read_by_programs(asked: list[Quickstart], capsys: pytest.CaptureFixture[str]):
    assert main(["quickstart", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["report"], found["lines"][1]["accuracy"]) == ("tour/distilled/report.html", 0.75)


def test_an_unknown_flag_is_a_usage_error(asked: list[Quickstart], capsys: pytest.CaptureFixture[str]):
    assert main(["quickstart", "--fast"]) == 2
    assert "--fast" in capsys.readouterr().err
    assert asked == []
