"""Runs whose student talks with an environment: what is trained on, and how it is evaluated and looked at."""

from dataclasses import replace

import pytest
from tests.pairs import MAX_NEW_TOKENS, Pair, make_pair, next_digit

from tutelage.errors import ConfigError
from tutelage.rollouts.sources import EnvironmentRollouts
from tutelage.run import api, doctor
from tutelage.tracking.rollout_table import read_table
from tutelage.types import Author, Example, Rollout

CLOSE = 1e-4  # nats: sampler and trainer differ by float32's rounding


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def conversation(authors: list[str], tokens: list[str]) -> list[tuple[str, str]]:
    """The student's turns, each with the reply to it, read off who wrote which token."""
    found = [("", "")]
    for author, token in zip(authors, tokens, strict=True):
        said, reply = found[-1]
        if author == "none":
            found[-1] = (said, reply + token)
        elif reply:
            found.append((token, ""))
        else:
            found[-1] = (said + token, "")
    return found


def require_heard(turns: list[tuple[str, str]]) -> None:
    """Every reply is what the environment says to the turns before it."""
    example = Example(id="any", prompt="")
    for place, (_, reply) in enumerate(turns[:-1]):
        assert reply == next_digit(example, [said for said, _ in turns[: place + 1]])


def test_a_run_trains_on_the_students_turns_alone(pair, tmp_path):
    config = pair.config("sod", tmp_path / "run")
    api.train(replace(config, logging=replace(config.logging, rollouts_every=1)))
    records = [record for path in sorted((tmp_path / "run" / "rollouts").iterdir()) for record in read_table(path)]
    spoken = [record for record in records if "none" in record.authors]
    assert spoken
    for record in spoken:
        require_heard(conversation(record.authors, record.tokens))
        weighed = [weight == weight for weight in record.weights]
        assert weighed == [author == "student" for author in record.authors]


def test_an_evaluation_is_a_conversation_too(pair, tmp_path):
    config = pair.config("sod", tmp_path / "run")
    settings = replace(config.evaluation, samples=8, max_new_tokens=2 * MAX_NEW_TOKENS)
    result = api.evaluate(replace(config, evaluation=settings))
    assert result.sampled is not None
    assert result.greedy is not None
    spoken = [rollout for rollout in result.sampled.rollouts if (rollout.authors == Author.NONE).any()]
    assert spoken
    assert [rollout.group for rollout in result.sampled.rollouts] == [place for place in range(4) for _ in range(8)]
    for rollout in (*spoken, *result.greedy.rollouts):
        _require_turns(rollout)
    again = api.evaluate(replace(config, evaluation=settings))
    assert again.metrics == result.metrics


def _require_turns(rollout: Rollout) -> None:
    assert rollout.turns is not None
    environment = rollout.authors == Author.NONE
    assert int(rollout.turns[environment].unique().numel()) == max(rollout.turns.tolist(), default=0)


def test_sampler_and_trainer_agree_behind_the_environments_tokens(pair, tmp_path):
    found = doctor.doctor(pair.config("sod", tmp_path / "run"), num_prompts=8)
    assert found.figures["sampler_gap_nats"] < CLOSE


def test_an_environment_that_cannot_be_found_stops_the_run_before_a_model_is_loaded(pair, tmp_path):
    config = pair.config("sod", tmp_path / "run")
    recipe = replace(config.recipe, rollouts=EnvironmentRollouts(environment="tests.pairs:nobody"))
    with pytest.raises(ConfigError, match="has no function 'nobody'"):
        api.train(replace(config, recipe=recipe, student=replace(config.student, path="no such folder")))
