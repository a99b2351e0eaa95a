"""Recipes with further teachers beside their own: anchors, and second models."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import Pair, make_pair

from tutelage.errors import ConfigError, Interrupted, PreflightError
from tutelage.objectives import Preference, ReverseKL, Sum, Term
from tutelage.objectives.compositions import AnyComposition, ProductOfTeachers, TrustRegionTeacher
from tutelage.recipes import Recipe
from tutelage.run import api
from tutelage.run.config import RunConfig
from tutelage.run.overrides import from_tree, to_tree
from tutelage.run.recipe_checks import check_recipe
from tutelage.teachers.parts import AnyTeacher, Average, Frozen, ModelTeacher, NoContext, SelfTeacher
from tutelage.tracking import events

BEFORE = SelfTeacher(update=Frozen(), context=NoContext())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def anchored(config: RunConfig, reference: AnyTeacher, *, scale: float = 1.0) -> RunConfig:
    """The same run with a reverse KL to a reference beside its terms."""
    anchor = Term(name="anchor", signal=ReverseKL(), teacher="before", scale=scale)
    return replace(
        config, recipe=replace(config.recipe, terms=(*config.recipe.terms, anchor), references={"before": reference})
    )


def distance(folder, other) -> float:
    """Between two students' weights."""
    first, second = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    return float(sum((first[key] - second[key]).square().sum() for key in first)) ** 0.5


def test_an_anchor_to_the_student_before_training_starts_at_zero_and_then_holds_it_back(pair, tmp_path):
    config = pair.config("gkd", tmp_path / "free", evaluation_data=None)
    free = api.train(config)
    held = api.train(replace(anchored(config, BEFORE, scale=100.0), output=str(tmp_path / "held")))
    found = [event.metrics.get("term/anchor/loss_nats") for event in events.read(held.folder / "metrics.jsonl")]
    losses = [value for value in found if value is not None]
    assert losses[0] == pytest.approx(0.0, abs=1e-5)
    assert max(losses[1:]) > 1e-3
    assert distance(held.student, pair.student) < 0.9 * distance(free.student, pair.student)


def test_a_second_model_as_reference_pulls_the_student_like_a_second_teacher(pair, tmp_path):
    """Half the weight on each of two equal teachers is the weight of one."""
    config = pair.config("gkd", tmp_path / "one", evaluation_data=None)
    term = Term(name="a", signal=ReverseKL(), on=("student", "dataset"))
    config = replace(config, recipe=replace(config.recipe, terms=(term,)))
    one = api.train(config)
    terms = tuple(
        Term(name=name, signal=ReverseKL(), on=("student", "dataset"), scale=0.5, teacher=name) for name in ("teacher", "other")
    )
    recipe = replace(config.recipe, terms=terms, references={"other": ModelTeacher(model=str(pair.teacher))})
    two = api.train(replace(config, recipe=recipe, output=str(tmp_path / "two")))
    first, second = load_file(one.student / "model.safetensors"), load_file(two.student / "model.safetensors")
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4)


def test_a_moving_reference_resumes_to_the_same_bits(pair, tmp_path, monkeypatch):
    from tests.run.test_runs import stopping_after

    config = anchored(pair.config("gkd", tmp_path / "whole"), SelfTeacher(update=Average(rate=0.3), context=NoContext()))
    whole = api.train(config)
    monkeypatch.setattr(api, "stop_on_signals", stopping_after(3))
    with pytest.raises(Interrupted):
        api.train(replace(config, output=str(tmp_path / "parts")))
    monkeypatch.undo()
    resumed = api.resume(tmp_path / "parts")
    assert distance(whole.student, resumed.student) == 0.0


def test_references_survive_a_round_trip_through_json(pair, tmp_path):
    config = anchored(pair.config("gkd", tmp_path), BEFORE)
    assert from_tree(json.loads(json.dumps(to_tree(config)))) == config


def test_references_that_nobody_asks_or_that_take_the_teachers_name_are_refused(pair, tmp_path):
    recipe: Recipe = pair.config("gkd", tmp_path).recipe
    with pytest.raises(ConfigError, match="no term asks: before"):
        replace(recipe, references={"before": BEFORE})
    with pytest.raises(ConfigError, match="teacher to two teachers"):
        replace(recipe, references={"teacher": BEFORE})


def test_a_model_without_a_name_is_refused_with_the_flag_of_its_reference(pair, tmp_path):
    with pytest.raises(ConfigError, match=r"--recipe\.references\.before\.model"):
        api.train(anchored(pair.config("gkd", tmp_path / "run"), ModelTeacher()))


def test_a_signal_of_the_whole_step_against_a_reference_is_refused(pair, tmp_path):
    term = Term(name="pairs", signal=Preference(), reduction=Sum(), teacher="before")
    recipe = replace(pair.config("opd", tmp_path).recipe, terms=(term,), references={"before": BEFORE})
    with pytest.raises(PreflightError, match="measured against the recipe's own teacher only"):
        check_recipe(recipe)


def composed(config: RunConfig, composition: AnyComposition, **references: AnyTeacher) -> RunConfig:
    """The same run whose one term asks a composition."""
    term = Term(name="loss", signal=ReverseKL(), on=("student", "dataset"), teacher="made")
    recipe = replace(config.recipe, terms=(term,), references=references, compositions={"made": composition})
    return replace(config, recipe=recipe)


def test_a_teacher_composed_of_itself_is_that_teacher(pair, tmp_path):
    config = pair.config("gkd", tmp_path / "plain", evaluation_data=None)
    term = Term(name="loss", signal=ReverseKL(), on=("student", "dataset"))
    plain = api.train(replace(config, recipe=replace(config.recipe, terms=(term,))))
    twin = ModelTeacher(model=str(pair.teacher))
    product = composed(config, ProductOfTeachers(parts=("teacher", "twin")), twin=twin)
    made = api.train(replace(product, output=str(tmp_path / "made")))
    first, second = load_file(plain.student / "model.safetensors"), load_file(made.student / "model.safetensors")
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4)


def test_a_target_that_is_all_student_teaches_nothing(pair, tmp_path):
    config = pair.config("gkd", tmp_path / "run", evaluation_data=None)
    result = api.train(composed(config, TrustRegionTeacher(teacher="teacher", share=0.0)))
    found = [event.metrics.get("train/gradient_norm") for event in events.read(result.folder / "metrics.jsonl")]
    norms = [value for value in found if value is not None]
    assert len(norms) == 4
    assert max(norms) < 1e-5


def test_a_composition_survives_a_round_trip_and_names_what_it_is_made_of(pair, tmp_path):
    config = composed(pair.config("gkd", tmp_path), TrustRegionTeacher(teacher="teacher", share=0.25))
    assert from_tree(json.loads(json.dumps(to_tree(config)))) == config
    assert config.recipe.needs_of("teacher") == {"full"}
    with pytest.raises(ConfigError, match="made of nobody"):
        composed(config, TrustRegionTeacher(teacher="nobody"))
    with pytest.raises(ConfigError, match="no term asks: idle"):
        replace(config.recipe, compositions={**config.recipe.compositions, "idle": TrustRegionTeacher(teacher="teacher")})
