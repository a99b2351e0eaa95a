"""The two objectives against sums over responses, finite differences and the score-function identity."""

from dataclasses import replace

import pytest
import torch

from enumeration import reverse_kl_gradient
from tables import chance, log_probs, rewards, scores, world
from tutelage.lab.exact import World, sequence_level, token_level

WORLDS = pytest.mark.parametrize("end", [False, True])


def kl_of_responses(given: World, student: torch.Tensor) -> float:
    """sum_y pi_S(y) log(pi_S(y) / pi_T(y)), not divided by anything."""
    moved = replace(given, student=student)
    return sum(-chance(moved, y) * float(rewards(moved, y).sum()) for y in range(len(given.responses)))


def mean_tokens(given: World) -> float:
    return sum(chance(given, y) * len(given.responses[y]) for y in range(len(given.responses)))


@WORLDS
def test_the_gradient_of_whole_responses_is_the_finite_difference_of_their_kl(end):
    given = world(3, 2, end=end)
    found, step = sequence_level(given), 1e-5
    assert found.value == pytest.approx(kl_of_responses(given, given.student) / mean_tokens(given))
    for row in range(given.student.shape[0]):
        for entry in range(given.student.shape[1]):
            bump = torch.zeros_like(given.student)
            bump[row, entry] = step
            slope = (kl_of_responses(given, given.student + bump) - kl_of_responses(given, given.student - bump)) / (2 * step)
            assert float(found.gradient[row, entry]) == pytest.approx(slope / mean_tokens(given), abs=1e-9)


@WORLDS
def test_it_is_also_the_mean_of_the_whole_return_times_the_score_of_the_whole_response(end):
    given = world(3, 3, end=end, seed=1)
    expected = torch.zeros_like(given.student)
    for y in range(len(given.responses)):
        expected -= chance(given, y) * rewards(given, y).sum() * scores(given, y).sum(0)
    torch.testing.assert_close(sequence_level(given).gradient, expected / mean_tokens(given))


@WORLDS
def test_the_gradient_of_prefixes_is_each_ones_reverse_kl_gradient_times_the_chance_to_get_there(end):
    given = world(3, 3, end=end, seed=2)
    expected = torch.zeros_like(given.student)
    for y in range(len(given.responses)):
        for row in given.path(0, y).tolist():
            expected[row] += chance(given, y) * reverse_kl_gradient(given.student[row], given.teachers["teacher"][row])
    torch.testing.assert_close(token_level(given).gradient, expected / mean_tokens(given))


@WORLDS
def test_both_objectives_have_the_same_value_and_different_gradients(end):
    given = world(4, 3, end=end)
    whole, prefixes = sequence_level(given), token_level(given)
    assert whole.value == pytest.approx(prefixes.value)
    assert (whole.gradient - prefixes.gradient).norm() > 0.1 * whole.gradient.norm()


def test_responses_of_one_token_leave_no_difference():
    given = world(4, 1)
    torch.testing.assert_close(sequence_level(given).gradient, token_level(given).gradient)
    torch.testing.assert_close(
        sequence_level(given).gradient[0], reverse_kl_gradient(given.student[0], given.teachers["teacher"][0])
    )


def test_several_prompts_are_averaged_by_token():
    given = world(3, 2, num_prompts=2)
    total = 0.0
    for prompt in range(2):
        for y in range(len(given.responses)):
            pairs = zip(
                log_probs(given, given.student, y, prompt=prompt),
                log_probs(given, given.teachers["teacher"], y, prompt=prompt),
                strict=True,
            )
            total += chance(given, y, prompt=prompt) * float(sum(own - theirs for own, theirs in pairs))
    assert sequence_level(given).value == pytest.approx(total / 4)
    assert token_level(given).value == pytest.approx(total / 4)
