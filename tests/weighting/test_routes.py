"""Which rollouts a term acts on."""

from dataclasses import replace

import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.objectives import ReverseKL, Term, plan
from tutelage.weighting import LikelyToTeacher, Otherwise, Outcome, Taught

RESPONSES, REWARDS = [[0, 1], [2], [3, 4, 5], [0]], [1.0, 0.0, None, 0.0]


def given(*, untaught: tuple[int, ...] = ()):
    batch = steps.step(*RESPONSES, student=steps.logits(7), rewards=REWARDS).batch
    taught = ~torch.isin(batch.rollout, torch.tensor(untaught, dtype=torch.long))
    return replace(batch, taught={"teacher": taught})


def taken(route, batch, measured=None, mask=None) -> set[int]:
    """Rollouts of the rows that a route takes; it takes or leaves each as a whole."""
    mask = torch.ones(7, dtype=torch.bool) if mask is None else mask
    found = route(batch, measured or {}, mask, gather=lambda local: local) & mask
    whole = {index for index in range(4) if found[mask & (batch.rollout == index)].any()}
    assert all(found[mask & (batch.rollout == index)].all() for index in whole)
    return whole


def test_a_response_that_was_not_judged_is_neither_right_nor_wrong():
    assert taken(Outcome(correct=True), given()) == {0}
    assert taken(Outcome(correct=False), given()) == {1, 3}


def test_what_the_teacher_could_not_teach_is_not_taken():
    assert taken(Taught(), given(untaught=(0, 2))) == {1, 3}
    assert taken(Taught(teacher="another"), given(untaught=(0, 2))) == {0, 1, 2, 3}


@pytest.mark.parametrize(("quantile", "expected"), [(0.0, {0, 1, 2, 3}), (0.25, {0, 2, 3}), (0.5, {0, 3}), (0.99, {3})])
def test_the_least_likely_share_is_dropped_by_the_mean_over_a_responses_tokens(quantile, expected):
    values = torch.tensor([-1.0, -2.0, -9.0, -2.0, -2.0, -2.0, -0.1])  # means -1.5, -9, -2, -0.1
    assert taken(LikelyToTeacher(quantile=quantile), given(), {"teacher_log_prob": values}) == expected


def test_responses_that_are_equally_likely_stay_together():
    assert taken(LikelyToTeacher(quantile=0.5), given(), {"teacher_log_prob": torch.full((7,), -1.0)}) == {0, 1, 2, 3}


def test_the_quantile_is_taken_over_the_responses_that_are_left():
    values = torch.tensor([-1.0, -2.0, -9.0, -2.0, -2.0, -2.0, -0.1])
    mask = torch.isin(given().rollout, torch.tensor([1, 2]))
    assert taken(LikelyToTeacher(quantile=0.5), given(), {"teacher_log_prob": values}, mask) == {2}


def test_a_route_and_what_it_does_not_take_cover_every_rollout_once():
    batch = given(untaught=(1,))
    both = (Outcome(correct=False), Taught())
    corrected = taken(both[0], batch) & taken(both[1], batch)
    assert (corrected, taken(Otherwise(than=both), batch)) == ({3}, {0, 1, 2})


def test_what_is_left_asks_for_what_its_routes_ask():
    rest = Otherwise(than=(Outcome(), LikelyToTeacher()))
    assert (rest.verdicts, rest.statistics, rest.needs) == ({"correct"}, {"teacher_log_prob"}, {"sampled"})
    term = Term(name="a", signal=ReverseKL(), routes=(rest,))
    assert term.verdicts == {"correct"}


@pytest.mark.parametrize(("counts", "share"), [("acting", 1 / 2), ("written", 1 / 7)])
def test_routed_terms_count_their_own_tokens_or_all_that_were_written(counts, share):
    term = Term(name="a", signal=ReverseKL(), routes=(Outcome(correct=True),), counts=counts)
    assert plan([term], given()).coefficients[0].tolist() == pytest.approx([share] * 2 + [0.0] * 5)


@pytest.mark.parametrize("make", [lambda: LikelyToTeacher(quantile=1.0), lambda: Otherwise(than=())])
def test_routes_that_take_nothing_are_refused(make):
    with pytest.raises(ConfigError, match="needs"):
        make()
