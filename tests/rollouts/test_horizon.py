from collections.abc import Mapping

import pytest
import torch

from tutelage.rollouts import Aids, CachedSampler, Prompt, RolloutWriter, Text
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.types import Example, Rollout
from tutelage.types.schedules import Controlled, Linear, Scalar, range_of, value_at

STOP = 0
TEXT = Text(decode=lambda ids: " ".join(map(str, ids)), encode_response=lambda text: [STOP])


def _write(
    model, horizon: Scalar | Controlled | None, *, step: int = 0, controls: Mapping[str, float] | None = None
) -> list[Rollout]:
    sampler = CachedSampler(model, vocab=12, stop_token_ids=frozenset({STOP}))
    writer = RolloutWriter(
        StudentRollouts(sampling=Sampling(n=8, max_new_tokens=12), horizon=horizon),
        student=sampler,
        text=TEXT,
        seed=0,
        aids=Aids(controls={} if controls is None else controls),
    )
    prompts = [Prompt(example=Example(id="a", prompt=""), token_ids=torch.tensor([1, 2]))]
    return writer.write(prompts, step=step)


@pytest.mark.parametrize("horizon", [1, 3, 7])
def test_a_horizon_cuts_what_the_same_draws_would_have_written_and_nothing_else(make_model, horizon):
    model = make_model(std=0.1)
    whole, cut = _write(model, None), _write(model, float(horizon))
    assert any(len(rollout.response_ids) < horizon for rollout in whole) or horizon == 1
    for long, short in zip(whole, cut, strict=True):
        assert short.response_ids.tolist() == long.response_ids.tolist()[:horizon]
        assert short.finish == ("stop" if int(short.response_ids[-1]) == STOP else "length")


@pytest.mark.parametrize("horizon", [12.0, 500.0])
def test_a_horizon_beyond_the_longest_response_changes_no_bit(make_model, horizon):
    model = make_model(std=0.1)
    for one, other in zip(_write(model, None), _write(model, horizon), strict=True):
        assert torch.equal(one.response_ids, other.response_ids)
        assert torch.equal(one.behaviour_log_probs, other.behaviour_log_probs)


def test_a_horizon_may_follow_a_schedule(make_model):
    model, schedule = make_model(vocab=40), Linear(start=2.0, end=9.0, steps=7)
    for step in (0, 3, 7, 20):
        longest = max(len(rollout.response_ids) for rollout in _write(model, schedule, step=step))
        assert longest == round(schedule(step))


def test_a_controlled_horizon_is_read_anew_at_every_step_and_starts_where_it_says(make_model):
    model, setting = make_model(vocab=40), Controlled(name="horizon", start=3.0)
    controls: dict[str, float] = {}
    lengths = []
    for value in (None, 5.4, 2.0):
        if value is not None:
            controls["horizon"] = value
        lengths.append(max(len(rollout.response_ids) for rollout in _write(model, setting, controls=controls)))
    assert lengths == [3, 5, 2]
    assert value_at(setting, 9) == 3.0
    assert range_of(setting) == (3.0,)
