import ast
from inspect import signature
from pathlib import Path

import pytest

import tutelage
from tutelage.errors import ConfigError
from tutelage.recipes import REGISTRY, get

KNOBS = {
    "ahead": False,
    "without_right": "skip",
    "hint_column": "answer",
    "coefficient": 2.0,
    "growth": 3.0,
    "forced_trust": True,
    "source": "teacher",
    "rest": "tail",
    "column": "solution",
    "teacher_update": "live",
    "allowed_column": "task",
    "withheld_column": "secrets",
    "experts": {"algebra": "folder"},
    "default": "expert",
    "reference": "some/model",
    "include_sampled": True,
    "score": "either",
    "student_prefers": "likely",
    "skip_first": ("<",),
    "environment": "tools.py:reply",
    "chosen_by": "teacher",
}
"""Another value than the default, where one less or one more does not do."""


RELATED = {
    ("sft", "n"): {"source": "teacher"},
    ("sdpo", "student_share"): {"teacher_update": "trust_region"},
    ("adwin", "high"): {"low": 0.1},
}
"""What has to be set as well for a knob to mean anything."""


def names(entry) -> dict[str, object]:
    return {name: part.default for name, part in signature(entry.make).parameters.items() if name != "teacher"}


@pytest.mark.parametrize("name", REGISTRY)
def test_a_card_names_every_knob_with_the_default_that_holds(name):
    card = {knob.name: knob.default for knob in REGISTRY[name].card.knobs}
    assert {knob: repr(default) for knob, default in names(REGISTRY[name]).items()} == card


@pytest.mark.parametrize("name", REGISTRY)
def test_a_card_leaves_nothing_out(name):
    card = REGISTRY[name].card
    assert all((card.title, card.paper, card.equation, card.summary, card.settings, card.exact_check))
    assert all(knob.meaning for knob in card.knobs)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_recipe_carries_the_name_that_it_is_called_by(name):
    entry = get(name)
    assert entry.name == name == entry.recipe().name
    assert entry.make.__doc__
    assert "Reference: " in entry.make.__doc__


@pytest.mark.parametrize(("name", "knob"), [(name, knob) for name, entry in REGISTRY.items() for knob in names(entry)])
def test_every_knob_changes_the_recipe(name, knob):
    default = names(REGISTRY[name])[knob]
    other = KNOBS[knob] if knob in KNOBS else default + 1 if isinstance(default, int) else 0.5 * (default or 0.5)
    related = RELATED.get((name, knob), {})
    assert get(name).recipe(**related | {knob: other}) != get(name).recipe(**related)


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no recipe 'tropdd' \(did you mean 'tropd'\?\)\. Recipes: sft, seq_kd, "):
        get("tropdd")


FOLDER = Path(tutelage.__file__).parent
FAMILIES = sorted({FOLDER / "recipes" / f"{entry.family}.py" for entry in REGISTRY.values()})
ENGINE = ("controllers", "credit", "diagnostics", "evaluation", "math", "objectives", "rollouts", "run", "teachers", "training")


@pytest.mark.parametrize("file", FAMILIES, ids=lambda file: file.stem)
def test_a_family_fits_on_a_few_screens(file):
    assert len(file.read_text().splitlines()) <= 250


@pytest.mark.parametrize("name", REGISTRY)
def test_a_recipe_fits_on_a_screen(name):
    """Its body; the signature has a line for each knob."""
    (function,) = (
        node
        for node in ast.parse((FOLDER / "recipes" / f"{REGISTRY[name].family}.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    assert function.end_lineno is not None
    assert function.end_lineno - function.body[1].lineno < 30


@pytest.mark.parametrize("package", [*ENGINE, "types", "verifiers", "weighting"])
def test_nothing_that_carries_recipes_out_knows_a_method_by_name(package):
    """No text constant of its code, docstrings aside, is the name of a method."""
    for file in (FOLDER / package).rglob("*.py"):
        tree = ast.parse(file.read_text())
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
        }
        assert not texts & set(REGISTRY), file
