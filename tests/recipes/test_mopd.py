from dataclasses import replace

import pytest
import torch

import steps
from tutelage.errors import ConfigError, DataError
from tutelage.recipes import dgrpo, mopd, opd
from tutelage.teachers.parts import ModelTeacher, RoutedTeacher
from tutelage.types import Example, RoutedSignal

RESPONSES, GROUPS = [[0, 1], [2, 3], [4, 5]], [0, 0, 0]


def three_responses(**more):
    """Of one length, so that a mean over tokens is one over responses."""
    tables = {"student": steps.logits(6), "teacher": steps.logits(6, seed=1)}
    return steps.step(*RESPONSES, **(tables | more), groups=GROUPS, rewards=(1.0, 0.0, 0.0))


def test_one_expert_and_fresh_samples_are_opd():
    given = three_responses()
    torch.testing.assert_close(steps.gradient(mopd(), given), steps.gradient(opd(), given))


def test_each_response_is_taught_by_its_own_expert():
    algebra, geometry = steps.logits(6, seed=1), steps.logits(6, seed=2)
    by_algebra, by_geometry = three_responses(teacher=algebra), three_responses(teacher=geometry)
    which = torch.tensor([0, 0, 1, 1, 0, 0])
    parts = tuple(step.teachers["teacher"] for step in (by_algebra, by_geometry))
    routed = replace(by_algebra, teachers={"teacher": RoutedSignal(parts=parts, which=which)})
    found = steps.gradient(mopd({"algebra": "a", "geometry": "b"}), routed)
    expected = torch.where(which.unsqueeze(-1) == 0, steps.gradient(mopd(), by_algebra), steps.gradient(mopd(), by_geometry))
    torch.testing.assert_close(found, expected)


def test_tokens_on_which_trainer_and_sampler_disagree_too_much_give_nothing():
    fresh = three_responses()
    own, theirs = (steps.log_prob(fresh, table) for table in (fresh.hidden, fresh.teachers["teacher"].hidden))
    log_ratio = torch.tensor([0.0, 1.5, 1.7, -0.6, -0.8, 0.3], dtype=torch.float64)
    found = steps.gradient(mopd(), three_responses(behaviour=own - log_ratio))
    ratio = log_ratio.exp()
    inside = (ratio >= 0.5) & (ratio <= 5.0)
    assert inside.tolist() == [True, True, False, True, False, True]
    weight = torch.where(inside, ratio, 0.0)
    torch.testing.assert_close(found, -steps.by_row(weight * (theirs - own), steps.score(fresh)) / 6)


def test_a_reward_joins_with_its_weight():
    given = three_responses()
    reward = steps.gradient(dgrpo(beta=0.0), given)
    torch.testing.assert_close(steps.gradient(mopd(outcome=0.3), given), steps.gradient(mopd(), given) + 0.3 * reward)
    assert (mopd().verdicts, mopd(outcome=0.3).verdicts) == (frozenset(), {"reward"})


EXPERTS = {name: ModelTeacher(model=name) for name in ("algebra", "geometry")}


@pytest.mark.parametrize(
    ("named", "default", "expected"),
    [
        ("algebra", None, "algebra"),
        ("geometry", "algebra", "geometry"),
        (None, "algebra", "algebra"),
        ("art", "algebra", "algebra"),
    ],
)
def test_an_example_is_taught_by_the_expert_that_it_names_or_by_the_default(named, default, expected):
    teacher = RoutedTeacher(experts=EXPERTS, default=default)
    assert teacher.expert_of(Example(id="row", prompt="?", teacher_id=named)) == expected


@pytest.mark.parametrize("named", [None, "art"])
def test_without_a_default_an_example_that_names_nobody_is_refused(named):
    with pytest.raises(DataError, match=r"Example 'row' names the teacher .* the experts are algebra, geometry"):
        RoutedTeacher(experts=EXPERTS).expert_of(Example(id="row", prompt="?", teacher_id=named))


def test_a_default_that_is_no_expert_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'algebra'"):
        mopd({"algebra": "a"}, default="algebr")
    with pytest.raises(ConfigError, match="at least one expert"):
        RoutedTeacher(experts={})
