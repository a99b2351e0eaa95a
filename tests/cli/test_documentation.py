"""What the pages say of the command line holds."""

import re
import shlex
from pathlib import Path

import pytest

from tutelage.cli.main import COMMANDS, EXIT_CODES, main
from tutelage.run.overrides import ALIASES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "cli.md").read_text()
PAGES = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
TOML = re.compile(r"^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONTINUED = re.compile(r"\\\n\s*")


def commands() -> list[tuple[Path, str]]:
    """Every `tutelage ...` line of every page, without what follows a comment sign."""
    lines = [
        (page, line.partition(" #")[0].strip())
        for page in PAGES
        for block in SHELL.findall(page.read_text())
        for line in CONTINUED.sub("", block).splitlines()
    ]
    return [(page, line[line.index("tutelage ") :]) for page, line in lines if re.match(r"(\.venv/bin/)?tutelage ", line)]


def rows(title: str) -> list[str]:
    """First cells of the table that follows a line."""
    table = PAGE.partition(title)[2].partition("\n\n|")[2].partition("\n\n")[0]
    return [line.strip("|").partition("|")[0].strip() for line in ("|" + table).splitlines()[2:]]


def test_the_page_has_every_command_and_every_exit_code():
    assert [cell.strip("`").removeprefix("tutelage ") for cell in rows("# Command line")] == list(COMMANDS)
    assert [int(cell) for cell in rows("## Exit codes")] == sorted({0, *EXIT_CODES.values(), 130})
    assert [cell.strip("`").removeprefix("--") for cell in rows("lists all settings.")] == list(ALIASES)


def test_pages_show_commands():
    assert {line.split()[1] for _, line in commands()} >= {"train", "eval", "doctor", "recipes"}


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda part: part.stem if isinstance(part, Path) else part)
def test_a_command_of_a_page_can_be_given(page, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text("".join(TOML.findall(page.read_text())[:1]))  # the file that the page shows
    name, *rest = shlex.split(line)[1:]
    assert name in COMMANDS
    starts_from_a_run = {"--from", "--resume"} & set(rest)
    if name in ("train", "eval", "doctor") and not starts_from_a_run:
        named = [] if name == "train" or not rest[0].startswith("-") else ["opd"]
        assert main(["train", *named, *rest, "--dry-run"]) == 0, capsys.readouterr().err
    elif name == "recipes":
        assert main([name, *rest]) == 0
    else:
        with pytest.raises(SystemExit) as end:
            main([name, *rest, "--help"])
        assert end.value.code == 0
