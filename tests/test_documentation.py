import re
from pathlib import Path

import pytest

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
    namespace: dict[str, object] = {"__name__": "documentation"}
    code = blocks(page, "python")
    for block in code:
        exec(compile(block, page, "exec"), namespace)
    assert len(namespace) > 2  # each page defines or imports something


def test_every_page_starts_with_a_title():
    untitled = [page.name for page in PAGES if not page.read_text().startswith("# ")]
    assert not untitled
