import re
import tomllib
from pathlib import Path

import pytest

from tutelage import recipes, run
from tutelage.run.overrides import changed, from_tree, to_tree
from tutelage.teachers.parts import ModelTeacher

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")])
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks, each moved to its own line numbers, so that a traceback points into the page."""
    text = page.read_text()
    return [
        "\n" * text.count("\n", 0, match.start("code")) + match["code"]
        for match in BLOCK.finditer(text)
        if match["language"] == language
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    started: list[run.RunConfig] = []
    monkeypatch.setattr(run, "train", started.append)  # the pages' runs would take hours
    namespace: dict[str, object] = {"__name__": "documentation"}
    code = blocks(page, "python")
    for block in code:
        exec(compile(block, page, "exec"), namespace)
    assert len(namespace) > 2  # each page defines or imports something
    assert all(from_tree(to_tree(config)) == config for config in started)


def test_the_readme_shows_a_whole_run(monkeypatch: pytest.MonkeyPatch):
    started: list[run.RunConfig] = []
    monkeypatch.setattr(run, "train", started.append)
    for block in blocks(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), {})
    assert len(started) == 1
    assert started[0].student.path
    assert isinstance(started[0].recipe.teacher, ModelTeacher)
    assert started[0].recipe.teacher.model


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=lambda page: page.stem)
def test_the_settings_of_a_page_are_valid(page: Path):
    base = run.RunConfig(recipe=recipes.get("opd").recipe())
    for block in blocks(page, "toml"):
        tree = tomllib.loads(block)
        assert recipes.get(tree.pop("method", "opd")).name == "opd"
        assert changed(base, tree) != base


def test_every_page_starts_with_a_title():
    untitled = [page.name for page in PAGES if not page.read_text().startswith("# ")]
    assert not untitled
