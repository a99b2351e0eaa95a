"""What each rollout source may write, and how likely it is."""

import math

import pytest
import torch

from tables import chance, log_probs, world
from tutelage.errors import ConfigError
from tutelage.lab.exact import outcomes
from tutelage.rollouts.sources import (
    DatasetRollouts,
    EnvironmentRollouts,
    MixedRollouts,
    Sampling,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
)
from tutelage.types import Author
from tutelage.types.schedules import Cosine

FILTERED = Sampling(temperature=1.4, top_p=0.8, top_k=3)
SOURCES = {
    "student": StudentRollouts(sampling=FILTERED),
    "greedy": StudentRollouts(sampling=Sampling(temperature=0.0)),
    "two": StudentRollouts(sampling=Sampling(n=2)),
    "dataset": DatasetRollouts(),
    "teacher": TeacherRollouts(sampling=FILTERED),
    "mixed": MixedRollouts(student_fraction=0.3),
    "mixed with teacher": MixedRollouts(student_fraction=0.3, otherwise="teacher", sampling=Sampling(n=2)),
    "prefix": TeacherPrefixRollouts(prefix_fraction=0.5),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("end", [False, True])
def test_the_probabilities_of_all_outcomes_add_up_to_one(name, end):
    found = list(outcomes(world(4, 2, end=end, num_prompts=1), SOURCES[name]))
    assert sum(outcome.probability for outcome in found) == pytest.approx(1.0, abs=1e-12)
    assert all(outcome.probability > 0.0 for outcome in found)


def test_the_student_carries_the_log_probability_of_the_distribution_that_it_was_drawn_from():
    given = world(4, 2)
    for outcome in outcomes(given, StudentRollouts(sampling=FILTERED)):
        written = outcome.draws[0].rollout
        assert outcome.probability == pytest.approx(float(written.behaviour_log_probs.sum().exp()))
        assert set(written.authors.tolist()) == {Author.STUDENT}


def test_tokens_that_are_taken_and_not_drawn_carry_their_log_probability_at_temperature_one():
    given = world(4, 3)
    (outcome,) = outcomes(given, SOURCES["greedy"])
    written = outcome.draws[0].rollout
    response = given.responses.index(tuple(written.response_ids.tolist()))
    torch.testing.assert_close(written.behaviour_log_probs, torch.stack(log_probs(given, given.student, response)))
    assert torch.stack(log_probs(given, given.student, response)).exp().min() > 0.25, "the likeliest of four"


def test_the_data_are_the_teachers_responses_and_only_the_students_tokens_have_a_behaviour():
    given = world(3, 2)
    by_data = {tuple(o.draws[0].rollout.response_ids.tolist()): o for o in outcomes(given, DatasetRollouts())}
    by_teacher = {tuple(o.draws[0].rollout.response_ids.tolist()): o for o in outcomes(given, TeacherRollouts())}
    for number, response in enumerate(given.responses):
        expected = float(torch.stack(log_probs(given, given.teachers["teacher"], number)).sum().exp())
        assert by_data[response].probability == pytest.approx(expected)
        assert by_teacher[response].probability == pytest.approx(expected)
        assert set(by_data[response].draws[0].rollout.authors.tolist()) == {Author.DATASET}
        assert set(by_teacher[response].draws[0].rollout.authors.tolist()) == {Author.TEACHER}
        assert by_data[response].draws[0].rollout.behaviour_log_probs.isnan().all()


def test_a_mixture_is_the_students_with_its_probability():
    given = world(3, 2)
    found = list(outcomes(given, MixedRollouts(student_fraction=0.3)))
    own = [o for o in found if int(o.draws[0].rollout.authors[0]) == Author.STUDENT]
    assert sum(o.probability for o in own) == pytest.approx(0.3)
    assert len(found) == 2 * len(given.responses)
    assert len(list(outcomes(given, MixedRollouts(student_fraction=1.0)))) == len(given.responses)


def test_a_prefix_is_the_teachers_and_the_rest_the_students_and_the_share_follows_the_schedule():
    given = world(3, 4)
    source = TeacherPrefixRollouts(prefix_fraction=Cosine(start=1.0, end=0.0, steps=10))
    for step, theirs in ((0, 4), (5, 2), (10, 0)):
        for outcome in outcomes(given, source, step=step):
            written = outcome.draws[0].rollout
            assert written.authors.tolist() == [Author.TEACHER] * theirs + [Author.STUDENT] * (4 - theirs)
            response = given.responses.index(tuple(written.response_ids.tolist()))
            first = log_probs(given, given.teachers["teacher"], response)[:theirs]
            last = log_probs(given, given.student, response)[theirs:]
            assert outcome.probability == pytest.approx(math.exp(sum(map(float, first + last))))
            assert written.behaviour_log_probs.isnan().tolist() == [True] * theirs + [False] * (4 - theirs)


def test_responses_to_one_prompt_are_independent_and_share_a_group():
    given = world(3, 2, num_prompts=2)
    found = list(outcomes(given, StudentRollouts(sampling=Sampling(n=2))))
    assert len(found) == 9**4
    for outcome in found[:: 9**3 + 5]:
        batch = outcome.batch()
        assert [rollout.group for rollout in batch.rollouts] == [0, 0, 1, 1]
        expected = 1.0
        for rollout, prompt in zip(batch.rollouts, (0, 0, 1, 1), strict=True):
            expected *= chance(given, given.responses.index(tuple(rollout.response_ids.tolist())), prompt=prompt)
        assert outcome.probability == pytest.approx(expected)
        assert len(outcome.rows()) == batch.num_rows == 8


def test_the_verifier_says_the_same_of_the_same_response():
    given = world(3, 2)
    for outcome in outcomes(given, StudentRollouts()):
        response = given.responses.index(tuple(outcome.draws[0].rollout.response_ids.tolist()))
        (verdict,) = outcome.batch().verdicts
        assert verdict.reward == float(given.rewards[0, response])
        assert verdict.correct == (verdict.reward == 1.0)


def test_more_outcomes_than_can_be_taken_are_refused_with_what_to_lower():
    given = world(4, 4, num_prompts=2)
    with pytest.raises(
        ConfigError, match=r"4,294,967,296 outcomes .* n 1 \(65,536\), length 3 \(16,777,216\), vocab 3 \(43,046"
    ):
        outcomes(given, StudentRollouts(sampling=Sampling(n=2)))
    with pytest.raises(ConfigError, match=r"num-prompts 1 \(256\)"):
        outcomes(given, StudentRollouts())
    with pytest.raises(ConfigError, match=r"256 outcomes .* at most 255"):
        outcomes(world(4, 4), StudentRollouts(), most=255)


def test_a_conversation_with_an_environment_is_refused():
    source = EnvironmentRollouts(environment="tests.pairs:next_digit")
    with pytest.raises(ConfigError, match=r"'environment'\) in which an environment replies"):
        outcomes(world(2, 2), source)
