"""Extrapolated steps around a method, in whole runs."""

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import MAX_NEW_TOKENS, Pair, make_pair

from tutelage.controllers import Extrapolation
from tutelage.errors import PreflightError
from tutelage.recipes import gkd, opd
from tutelage.recipes.tools import effopd, extrapolated
from tutelage.run import api
from tutelage.run.recipe_checks import check_recipe
from tutelage.tracking import events
from tutelage.verifiers import FunctionVerifier, NoVerifier


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def nothing_is_right(completions: list[str]) -> list[float]:
    return [0.0 for _ in completions]


def test_where_no_trial_ever_helps_the_run_is_that_of_the_method_itself(pair, tmp_path):
    verifier = FunctionVerifier(path=f"{__file__}:nothing_is_right")
    recipe = gkd(str(pair.teacher), max_new_tokens=MAX_NEW_TOKENS)
    changes = {"verifier": verifier, "evaluation_data": None}
    plain = api.train(pair.config("gkd", tmp_path / "plain", recipe=recipe, **changes))
    found = api.train(pair.config("gkd", tmp_path / "tool", recipe=extrapolated(recipe, num_prompts=4), **changes))
    weights, expected = (load_file(result.student / "model.safetensors") for result in (found, plain))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_each_power_of_two_is_tried_and_logged(pair, tmp_path):
    recipe = effopd(str(pair.teacher), n=2, num_prompts=4, max_new_tokens=MAX_NEW_TOKENS)
    result = api.train(pair.config("opd", tmp_path / "run", recipe=recipe, evaluation_data=None))
    tried = [
        event.step for event in events.read(result.folder / "metrics.jsonl") if "control/extrapolation_reward" in event.metrics
    ]
    assert tried == [1, 2, 4]


def test_it_goes_around_any_recipe_and_leaves_the_rest_of_it_alone():
    recipe = gkd("teacher")
    assert extrapolated(recipe).controllers == {"extrapolation": Extrapolation()}
    assert (extrapolated(recipe).terms, extrapolated(recipe).rollouts) == (recipe.terms, recipe.rollouts)
    assert effopd("teacher").terms == opd("teacher").terms


def test_without_a_verifier_there_is_nothing_to_decide_by():
    with pytest.raises(PreflightError, match="reward"):
        check_recipe(effopd("teacher"), verifier=NoVerifier())
