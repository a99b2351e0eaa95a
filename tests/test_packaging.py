import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
UNTESTED = {"trackio", "wandb"}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = (project["dependencies"], *project["optional-dependencies"].values())
    return [Requirement(line) for group in groups for line in group]


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonical(pin.name): pin for pin in found}


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_inside_its_range(requirement: Requirement):
    if requirement.name in UNTESTED:
        assert canonical(requirement.name) not in pins()
        return
    (pin,) = pins()[canonical(requirement.name)].specifier
    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version)


def test_pins_name_versions_only_and_no_place_of_download():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert not [pin for pin in pins().values() if "+" in str(pin.specifier) or pin.url]
