import json
from pathlib import Path

import pytest

from tutelage.errors import CheckpointError
from tutelage.lab.cache import ORIGIN, cache_folder, kept


class Maker:
    """Writes how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "made").write_text(str(self.calls))


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tutelage"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "tutelage"


def test_the_same_origin_is_made_once_and_another_one_beside_it(tmp_path: Path):
    make = Maker()
    first = kept("model", {"seed": 0, "size": 3}, make, root=tmp_path)
    again = kept("model", {"size": 3, "seed": 0}, make, root=tmp_path)
    other = kept("model", {"seed": 1, "size": 3}, make, root=tmp_path)
    assert first == again != other
    assert make.calls == 2
    assert (first / "made").read_text() == "1"
    assert json.loads((first / ORIGIN).read_text())["origin"] == {"seed": 0, "size": 3}


def test_fresh_makes_it_again_in_the_same_place(tmp_path: Path):
    make = Maker()
    first = kept("model", {}, make, root=tmp_path)
    assert kept("model", {}, make, root=tmp_path, fresh=True) == first
    assert (first / "made").read_text() == "2"
    assert [entry.name for entry in tmp_path.iterdir()] == [first.name]


def test_what_was_not_finished_is_not_taken_for_whole(tmp_path: Path):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept("model", {}, fail, root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    make = Maker()
    kept("model", {}, make, root=tmp_path)
    assert make.calls == 1


def test_a_folder_that_another_process_finished_first_is_no_hindrance(tmp_path: Path):
    make = Maker()

    def overtaken(folder: Path) -> None:
        kept("model", {}, make, root=tmp_path)
        (folder / "made").write_text("the second")

    folder = kept("model", {}, overtaken, root=tmp_path)
    assert (folder / "made").read_text() == "the second"
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="XDG_CACHE_HOME"):
        kept("model", {}, Maker(), root=tmp_path / "file" / "cache")
