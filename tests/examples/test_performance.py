"""The page of the performance, with and without results."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from tutelage.lab.bench.settings import HeadBench, as_json, of_json
from tutelage.lab.bench.targets import ROWS, TARGETS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text()
RESULT = ROOT / "benchmarks" / "results" / "performance.json"


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return loaded(ROOT / "docs" / "hooks" / "performance.py")


def step(ratio: float) -> dict[str, Any]:
    environment = {
        "hardware": {"cpus": 2, "memory_gib": 8.0},
        "packages": {"torch": "2.0", "transformers": "5.0"},
        "system": {"machine": "x86_64"},
    }
    sides = {
        "ours": [{"cpu_seconds": 1.0, "extra_mib": 10.0, "useful_share": 1.0}],
        "peer": [{"cpu_seconds": ratio, "extra_mib": 20.0}],
    }
    return {"peer": "TRL 1", "environment": environment, "readings": sides}


def test_without_a_result_the_page_says_so(hook, monkeypatch, tmp_path):
    monkeypatch.setattr(hook, "RESULT", tmp_path / "absent.json")
    page = hook.on_page_markdown(PAGE)
    assert "@performance" not in page
    assert "Not measured yet." in page
    assert page.count("| not measured |") == len(TARGETS)


def test_a_result_becomes_a_table_and_bars_whose_lengths_are_the_ratios(hook, monkeypatch, tmp_path):
    (tmp_path / "found.json").write_text(json.dumps({"rows": {"step-float32": step(3.0), "step-ragged": step(6.0)}}))
    monkeypatch.setattr(hook, "RESULT", tmp_path / "found.json")
    page = hook.on_page_markdown("@performance table\n\n@performance machine")
    assert "| step, float32: TRL over ours | at least 1.80 x | 3.00 x | 3.00 to 3.00 | 1.67 | yes |" in page
    assert "| step, float32: our extra memory over TRL's | at most 0.60 x | 0.50 x |" in page
    assert "x86_64 with 2 processors and 8.0 GiB, PyTorch 2.0" in page
    bars = ElementTree.fromstring(hook.plot(hook.read())).findall("rect")
    single, double = (float(bar.attrib["width"]) for bar in bars)
    assert double == pytest.approx(2 * single, abs=0.2)


def test_the_script_leaves_out_what_was_measured_before_unless_asked_again(monkeypatch, tmp_path, capsys):
    script = loaded(ROOT / "benchmarks" / "performance.py")
    asked: list[str] = []

    def measured(name: str, *, pairs: int | None) -> dict[str, Any]:
        asked.append(name)
        return step(float(len(asked))) | {"pairs": pairs}

    def run(*arguments: str) -> list[str]:
        asked.clear()
        monkeypatch.setattr("sys.argv", ["performance.py", "--output", str(tmp_path / "found.json"), *arguments])
        script.main()
        return list(asked)

    monkeypatch.setattr(script, "measure", measured)
    monkeypatch.setattr(script, "table", lambda result: "")
    assert run("--rows", "step-ragged") == ["step-ragged"]
    assert run("--rows", "step-float32", "step-ragged") == ["step-float32"]
    assert run("--rows", "step-ragged", "--fresh", "--pairs", "1") == ["step-ragged"]
    found = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert list(found) == ["step-float32", "step-ragged"]  # in the order of the table, whatever was measured first
    assert found["step-ragged"]["pairs"] == 1
    assert "| step, float32: TRL over ours | at least 1.80 x | 1.00 x |" in capsys.readouterr().out


@pytest.mark.skipif(not RESULT.exists(), reason="no result is committed")
def test_the_committed_result_was_measured_as_the_script_says():
    for name, row in json.loads(RESULT.read_text())["rows"].items():
        wanted = ROWS[name]
        assert of_json("head" if isinstance(wanted, HeadBench) else "step", row["settings"]) == wanted
        assert as_json(wanted).keys() == row["settings"].keys()
