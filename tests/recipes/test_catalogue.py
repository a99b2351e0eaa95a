import json
from inspect import signature

import pytest

from tutelage.recipes import REGISTRY, catalogue
from tutelage.recipes.axes import AXES


def test_the_catalogue_in_the_package_is_what_the_recipes_say():
    stored = catalogue.PATH.read_text(encoding="utf-8")
    assert stored == catalogue.text(), "stale: run python -m tutelage.recipes.catalogue"


def test_it_has_every_recipe_and_nothing_else():
    assert list(json.loads(catalogue.text())) == list(REGISTRY)


@pytest.mark.parametrize(
    ("name", "columns", "needs"),
    [
        ("sft", ["prompt", "response"], []),
        ("gkd", ["prompt", "response"], ["full"]),
        ("opd", ["prompt"], ["sampled"]),
        ("tropd", ["prompt"], ["sampled", "top_k"]),
        ("opsd", ["prompt", "solution"], ["full"]),
    ],
)
def test_what_a_method_needs_is_derived_from_its_parts(name, columns, needs):
    entry = catalogue.catalogue()[name]
    assert (entry["columns"], entry["needs"]) == (columns, needs)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_command_asks_for_a_teacher_only_where_it_is_another_model(name):
    command = catalogue.catalogue()[name]["command"]
    assert command.startswith(f"tutelage train {name} --student ")
    assert ("--teacher " in command) == ("teacher" in signature(REGISTRY[name].make).parameters and name != "sft")


def test_writing_it_makes_the_same_file(tmp_path):
    catalogue.write(tmp_path / "catalogue.json")
    assert (tmp_path / "catalogue.json").read_text(encoding="utf-8") == catalogue.text()


def test_every_axis_is_used_by_two_kinds_of_parts_at_least():
    """What almost every method does there counts as one of them."""
    found = {axis: set[str]() for axis in AXES}
    for entry in catalogue.catalogue().values():
        for axis, kinds in entry["axes"].items():
            found[axis] |= set(kinds)
    assert {axis: kinds for axis, kinds in found.items() if len(kinds) < 2} == {}


def test_axes_are_read_off_the_parts():
    axes = catalogue.catalogue()["sdpo"]["axes"]
    assert {axis: axes[axis] for axis in ("teacher", "context", "support", "weights", "teacher_update", "routing")} == {
        "teacher": ["self"],
        "context": ["first_available"],
        "support": ["top_k"],
        "weights": ["importance_weight"],
        "teacher_update": ["average"],
        "routing": [],
    }
    assert catalogue.catalogue()["adwin"]["axes"]["schedule"] == ["controlled", "aligned_window"]
