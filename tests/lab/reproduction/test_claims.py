"""The list of claims itself."""

import re

import pytest

from tutelage.credit import GroupRelative
from tutelage.errors import ConfigError
from tutelage.lab import tasks
from tutelage.lab.reproduction.claim import Claim, OfResponse, OfRun
from tutelage.lab.reproduction.claims import CLAIMS, SETUPS, chosen
from tutelage.lab.reproduction.jobs import job_of, resolved
from tutelage.lab.reproduction.recipes import recipe_of
from tutelage.objectives import Reshaped
from tutelage.rollouts.sources import Sampling
from tutelage.teachers.context_parts import PeerSolution
from tutelage.types.parts import parts
from tutelage.weighting import PerplexityShare

METHODS = {
    *("trb", "esr", "adwin", "kat", "lightning", "f_opd", "brts", "revisiting", "many_faces", "exopd", "reopold", "eopd"),
    *("tip", "ta_opd", "fire_opd", "scope", "sod", "iw_opd", "sdpo", "pw_opsd", "avsd", "selfci", "mopd", "rlsd", "srpo"),
    *("dgrpo", "effopd", "vopd", "tropd", "opsd"),
}


def test_every_method_has_a_claim_and_no_row_stands_twice():
    rows = [(claim.method, claim.task, claim.metric, claim.baseline) for claim in CLAIMS]
    assert len(set(rows)) == len(rows)
    assert {claim.method for claim in CLAIMS} >= METHODS
    assert all(re.fullmatch(r"\d{4}\.\d{5}", claim.source) for claim in CLAIMS if claim.method != "opd")


def test_a_method_is_measured_on_one_or_two_tasks():
    tasks_of = {method: {claim.task for claim in CLAIMS if claim.method == method} for method in METHODS}
    assert {len(found) for found in tasks_of.values()} <= {1, 2}


def test_knobs_are_turned_for_methods_that_have_a_row():
    assert SETUPS.keys() <= {claim.method for claim in CLAIMS}


def test_shares_become_numbers_of_the_task():
    task = tasks.get("chain")
    assert resolved(OfRun(share=0.25), task, task.budget) == round(0.25 * task.budget.num_steps)
    assert resolved(OfResponse(share=0.5), task, task.budget) == round(0.5 * task.max_response_tokens)
    assert resolved(OfRun(share=1e-9), task, task.budget) == 1
    assert resolved("x", task, task.budget) == "x"
    assert str(OfRun(share=0.25)) == "25% of the run's steps"


def test_rows_are_chosen_by_name():
    assert {claim.method for claim in chosen(method="vopd")} == {"vopd"}
    assert {claim.task for claim in chosen(task="long")} == {"long"}
    assert chosen() == CLAIMS
    assert "--method vopd --task chain" in chosen(method="vopd", task="chain")[0].command


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"method": "vodp"}, "did you mean 'vopd'"),
        ({"task": "chian"}, "did you mean 'chain'"),
        ({"method": "vopd", "task": "agent"}, "It is measured on: chain, long"),
    ],
)
def test_a_name_without_a_row_is_explained(asked, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        chosen(**asked)


def test_a_method_is_not_compared_with_itself():
    with pytest.raises(ConfigError, match="with itself"):
        Claim(method="opd", task="chain", statement="", source="")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.method} on {claim.task}")
def test_methods_that_compare_the_responses_of_a_prompt_get_several(claim: Claim):
    """With one response per prompt a group's advantages are zero, and no peer can be shown."""
    task = tasks.get(claim.task)
    job = job_of(task, claim.method, seed=0, learning_rate=0.0, budget=task.budget, claim=claim)
    recipe, _ = recipe_of(job, task, dict.fromkeys(task.roles, "folder"))
    compares = any(isinstance(part, GroupRelative | Reshaped | PeerSolution | PerplexityShare) for part in parts(recipe))
    several = max((part.n for part in parts(recipe.rollouts) if isinstance(part, Sampling)), default=1) > 1
    assert several or not compares
