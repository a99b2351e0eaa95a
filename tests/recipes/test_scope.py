from math import exp, inf

import pytest
import torch

import steps
from tutelage.errors import PreflightError
from tutelage.recipes import opd, scope
from tutelage.run.recipe_checks import check_recipe
from tutelage.verifiers import ExactMatch, NoVerifier

VOCAB = 6
RESPONSES = [[0, 1, 2], [3, 4], [5, 0, 1, 2], [3], [4, 5]]
GROUPS = [0, 0, 0, 1, 1]


def five_responses(*rewards: float | None):
    rows = sum(map(len, RESPONSES))
    return steps.step(
        *RESPONSES, student=steps.logits(rows), teacher=steps.logits(rows, seed=1), groups=GROUPS, rewards=rewards
    )


def mean_log_probs(given, table) -> list[float]:
    found = steps.log_prob(given, table)
    return [float(found[given.batch.rollout == index].mean()) for index in range(5)]


def softmax_within(values: list[float], members: list[int], tau: float) -> dict[int, float]:
    """Their number times the softmax of the members' values."""
    size = {index: exp(values[index] / tau) for index in members}
    return {index: len(members) * size[index] / sum(size.values()) for index in members}


def by_hand(given, rewards, *, tau: float = 1.0, sign: float = -1.0) -> torch.Tensor:
    """The gradient: policy gradient on wrong responses, cross-entropy on right ones, each a mean over its own tokens."""
    student, teacher = given.hidden.detach(), given.teachers["teacher"].hidden
    worth = steps.log_prob(given, teacher) - steps.log_prob(given, student)
    expected, score = torch.zeros_like(student), steps.score(given)
    for right, values in ((False, mean_log_probs(given, teacher)), (True, [sign * x for x in mean_log_probs(given, student)])):
        taken = [index for index, reward in enumerate(rewards) if reward is not None and (reward >= 0.5) is right]
        weights: dict[int, float] = {}
        for group in set(GROUPS):
            weights |= softmax_within(values, [index for index in taken if GROUPS[index] == group], tau)
        rows = torch.tensor([row for row, index in enumerate(given.batch.rollout.tolist()) if index in taken], dtype=torch.long)
        for row in rows.tolist():
            factor = 1.0 if right else float(worth[row])
            expected[row] = -weights[int(given.batch.rollout[row])] * factor * score[row] / len(rows)
    return expected


@pytest.mark.parametrize("tau", [0.3, 1.0, 20.0])
@pytest.mark.parametrize(("prefers", "sign"), [("unlikely", -1.0), ("likely", 1.0)])
def test_each_path_is_the_mean_over_its_tokens_with_the_softmax_of_perplexities(tau, prefers, sign):
    rewards = (1.0, 0.0, 0.0, 1.0, None)
    given = five_responses(*rewards)
    found = steps.gradient(scope(temperature=tau, student_prefers=prefers), given)
    torch.testing.assert_close(found, by_hand(given, rewards, tau=tau, sign=sign))
    assert found[given.batch.rollout == 4].abs().max() == 0.0, "a response that was not judged is on neither path"


def test_all_wrong_and_weighed_alike_is_opd():
    given = five_responses(0.0, 0.0, 0.0, 0.0, 0.0)
    torch.testing.assert_close(steps.gradient(scope(temperature=inf), given), steps.gradient(opd(), given))


def test_all_right_and_weighed_alike_imitates_every_token():
    given = five_responses(1.0, 1.0, 1.0, 1.0, 1.0)
    torch.testing.assert_close(steps.gradient(scope(temperature=inf), given), -steps.score(given) / given.batch.num_rows)


def test_a_response_that_is_alone_on_its_path_has_weight_one():
    given = five_responses(1.0, 0.0, 1.0, 0.0, 1.0)
    found, alike = (steps.gradient(scope(temperature=tau), given) for tau in (0.1, inf))
    wrong = torch.isin(given.batch.rollout, torch.tensor([1, 3]))
    torch.testing.assert_close(found[wrong], alike[wrong])
    assert not torch.allclose(found[~wrong], alike[~wrong])


def test_right_responses_that_the_student_finds_unlikely_count_for_more_by_default():
    given = five_responses(*[1.0] * 5)
    likelihood = mean_log_probs(given, given.hidden)[:3]
    size = steps.gradient(scope(), given) / (-steps.score(given) / given.batch.num_rows)
    weights = [float(size[given.batch.rollout == index][0, 0]) for index in range(3)]
    assert sorted(range(3), key=lambda index: weights[index]) == sorted(range(3), key=lambda index: -likelihood[index])
    assert sum(weights) == pytest.approx(3.0)


def test_wrong_responses_may_be_taught_by_the_divergence_on_the_teachers_likeliest_entries():
    given = five_responses(*[0.0] * 5)
    student, teacher = given.hidden.detach(), given.teachers["teacher"].hidden
    found = steps.gradient(scope(k=VOCAB, temperature=inf), given)
    torch.testing.assert_close(found, steps.token_kl_gradient(student, teacher) / given.batch.num_rows)


def test_a_run_without_a_verifier_is_refused():
    with pytest.raises(PreflightError, match="needs correct from a verifier"):
        check_recipe(scope("folder"), verifier=NoVerifier())
    check_recipe(scope("folder"), verifier=ExactMatch())
