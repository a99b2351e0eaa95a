"""Several teachers, each for its own examples: the truth is each one alone."""

import pytest
import torch

from tutelage.errors import DataError
from tutelage.teachers import Scorer, build
from tutelage.teachers.parts import ModelTeacher, RoutedTeacher
from tutelage.types import Example, RoutedSignal, StepBatch

PARTS = {name: ModelTeacher(model=name) for name in ("algebra", "geometry")}


@pytest.fixture
def models(make_model):
    return {"algebra": make_model(seed=1), "geometry": make_model(seed=2)}


def scorer(part, models):
    return build(part, student=models["algebra"], load=lambda expert: models[expert.model], vocab=258, microbatch_tokens=64)


def step(make_rollout, *named: str | None) -> StepBatch:
    """One response to an example of each domain."""
    examples = [Example(id=str(index), prompt=f"{index}+1=", teacher_id=name) for index, name in enumerate(named)]
    return StepBatch.of([make_rollout(row, "x" * (3 + place), group=place) for place, row in enumerate(examples)])


def test_each_response_is_scored_as_its_expert_alone_scores_it(make_rollout, models):
    batch = step(make_rollout, "geometry", "algebra", "geometry")
    routed = scorer(RoutedTeacher(experts=PARTS), models).score(batch)
    assert isinstance(routed.signal, RoutedSignal)
    assert routed.rows_taught.all()
    assert routed.signal.which.tolist() == [(1, 0, 1)[index] for index in batch.rollout.tolist()]
    for place, name in enumerate(PARTS):
        alone = scorer(PARTS[name], models).score(batch).signal
        own = routed.signal.which == place
        part = routed.signal.parts[place]
        torch.testing.assert_close(part.hidden[own], alone.hidden[own])
        torch.testing.assert_close(part.head.weight, alone.head.weight)


def test_an_expert_that_nobody_names_in_a_step_is_no_reason_to_stop(make_rollout, models):
    routed = scorer(RoutedTeacher(experts=PARTS), models).score(step(make_rollout, "algebra", "algebra"))
    assert set(routed.signal.which.tolist()) == {0}
    assert routed.rows_taught.all()


def test_the_default_teaches_who_names_nobody_and_without_one_the_row_is_named(make_rollout, models):
    batch = step(make_rollout, None, "algebra")
    found = scorer(RoutedTeacher(experts=PARTS, default="geometry"), models)
    assert set(found.score(batch).signal.which[batch.rollout == 0].tolist()) == {1}
    assert found.reading.reader(batch.rollouts[0].example) is models["geometry"]
    with pytest.raises(DataError, match="Example '0' names the teacher None"):
        scorer(RoutedTeacher(experts=PARTS), models).score(batch)


def test_experts_have_nothing_to_save(models):
    found = scorer(RoutedTeacher(experts=PARTS), models)
    found.update(models["algebra"])
    assert found.state_dict() == {}
    found.load_state_dict({})


def test_experts_are_asked_only_about_the_rollouts_that_are_wanted(make_rollout, models):
    batch, found = (
        step(make_rollout, "geometry", "algebra", "geometry", "algebra"),
        scorer(RoutedTeacher(experts=PARTS), models),
    )
    everything, part = found.score(batch), found.score(batch, only=[0, 3])
    wanted = (batch.rollout == 0) | (batch.rollout == 3)
    assert torch.equal(part.rows_taught, wanted)
    for whole, some in zip(everything.signal.parts, part.signal.parts, strict=True):
        own = wanted & whole.hidden.any(dim=-1)
        torch.testing.assert_close(some.hidden[own], whole.hidden[own])
        assert not some.hidden[~wanted].any()


def test_experts_and_single_models_are_scorers_alike(models):
    assert isinstance(scorer(RoutedTeacher(experts=PARTS), models), Scorer)
    assert isinstance(scorer(PARTS["algebra"], models), Scorer)
