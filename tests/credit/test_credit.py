"""Returns, baselines, groups and pairs against sums written out by hand."""

from itertools import product

import pytest
import torch

from dense import rollout
from tutelage.credit import GroupRelative
from tutelage.credit.baselines import batch_mean, leave_one_out
from tutelage.credit.preferences import credit_of_pairs, logistic, odds_ratio, pairs_by_author, pairs_by_reward
from tutelage.credit.returns import return_to_go
from tutelage.errors import ConfigError
from tutelage.types import Author, StepBatch, Verdict

S, T, D, N = Author.STUDENT, Author.TEACHER, Author.DATASET, Author.NONE


def step(
    *authors: list[Author], groups: list[int] | None = None, rewards: list[float | None] | None = None
) -> tuple[StepBatch, torch.Tensor]:
    """Responses with these authors, and the mask of the student's tokens."""
    written = [
        rollout(range(len(who)), who, torch.zeros(len(who), dtype=torch.float64), group=(groups or range(len(authors)))[index])
        for index, who in enumerate(authors)
    ]
    batch = StepBatch.of(written, [Verdict(reward=reward) for reward in rewards or []])
    return batch, batch.rows_by([S])


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_return_discounts_from_the_token_itself_and_stays_within_its_response():
    batch, mask = step([S, S, S], [S], [S, S])
    found = return_to_go(numbers(1, 2, 4, 8, 16, 32), batch, mask, discount=0.5)
    torch.testing.assert_close(found, numbers(1 + 1 + 1, 2 + 2, 4, 8, 16 + 16, 32))


def test_a_late_token_of_a_long_response_is_worth_as_much_as_the_last_one_of_a_short_response():
    batch, mask = step([S] * 50, [S])
    found = return_to_go(torch.ones(51, dtype=torch.float64), batch, mask, discount=0.9)
    assert found[49] == found[50] == 1.0


def test_the_length_normalised_return_of_equal_rewards_is_that_reward():
    batch, mask = step([S] * 4, [S] * 2)
    found = return_to_go(torch.full((6,), 0.3, dtype=torch.float64), batch, mask, discount=0.7, length_normalised=True)
    torch.testing.assert_close(found, torch.full((6,), 0.3, dtype=torch.float64))


def test_tokens_of_others_neither_get_a_return_nor_give_one():
    batch, mask = step([T, S, N, S], [D, D])
    assert batch.num_rows == 5  # the tool's token has no row
    found = return_to_go(numbers(100, 1, 2, 100, 100), batch, mask, discount=1.0)
    torch.testing.assert_close(found, numbers(0, 3, 2, 0, 0))


def test_no_student_token_at_all_gives_zeros():
    batch, mask = step([T, T])
    assert return_to_go(numbers(1, 2), batch, mask, discount=1.0).tolist() == [0.0, 0.0]
    assert batch_mean(numbers(1, 2), mask, gather=lambda local: local).tolist() == [0.0, 0.0]


def test_the_batch_mean_is_that_of_all_processes():
    _, mask = step([S, S, T])
    elsewhere = numbers(10.0, 3.0)  # a sum of 10 over 3 tokens
    found = batch_mean(numbers(1, 4, 100), mask, gather=lambda local: torch.cat([local, elsewhere]))
    torch.testing.assert_close(found, torch.full((3,), (5.0 + 10.0) / 5.0, dtype=torch.float64))


def test_the_others_mean_leaves_the_own_response_out_and_stays_within_the_prompt():
    batch, mask = step([S, S], [S], [S, T], [S], groups=[0, 0, 0, 1])
    found = leave_one_out(numbers(1, 2, 4, 8, 100, 50), batch, mask)
    torch.testing.assert_close(found, numbers(6, 6, 11 / 3, 7 / 3, 7 / 3, 0))


def test_the_leave_one_out_gradient_is_unbiased_by_enumeration_and_the_batch_mean_is_not():
    """All pairs of one-token responses to a prompt; the gradient is of an expected reward."""
    logits = numbers(0.3, -0.4, 0.9).requires_grad_()
    reward = numbers(1.0, -2.0, 0.5)
    (exact,) = torch.autograd.grad((logits.softmax(-1) * reward).sum(), logits)
    p, score = logits.detach().softmax(-1), torch.eye(3, dtype=torch.float64) - logits.detach().softmax(-1)
    batch, mask = step([S], [S], groups=[0, 0])

    def mean_gradient(baseline) -> torch.Tensor:
        total = torch.zeros(3, dtype=torch.float64)
        for a, b in product(range(3), repeat=2):
            rewards = torch.stack([reward[a], reward[b]])
            worth = rewards - baseline(rewards)
            total += p[a] * p[b] * 0.5 * (worth[0] * score[a] + worth[1] * score[b])
        return total

    torch.testing.assert_close(mean_gradient(lambda values: leave_one_out(values, batch, mask)), exact)
    shrunk = mean_gradient(lambda values: batch_mean(values, mask, gather=lambda local: local))
    torch.testing.assert_close(shrunk, (1 - 1 / 2) * exact)  # biased by exactly one part in the number of tokens


def test_a_group_relative_advantage_is_centred_scaled_and_the_same_for_each_token():
    batch, mask = step([S, S], [S], [S], [S], groups=[0, 0, 0, 1], rewards=[1.0, 0.0, None, 5.0])
    found = GroupRelative(epsilon=0.0)(batch, {}, mask, gather=lambda local: local)
    torch.testing.assert_close(found, numbers(0.5, 0.5, -0.5, 0.0, 0.0) / 0.5**0.5)


def test_equal_rewards_teach_nothing_even_without_an_epsilon_in_the_way():
    batch, mask = step([S], [S], groups=[0, 0], rewards=[0.7, 0.7])
    assert GroupRelative()(batch, {}, mask, gather=lambda local: local).tolist() == [0.0, 0.0]
    with pytest.raises(ConfigError, match="epsilon >= 0"):
        GroupRelative(epsilon=-1.0)


def test_pairs_stay_within_a_prompt_and_need_a_difference():
    batch, _ = step([S], [S], [S], [S], [T], groups=[0, 0, 0, 1, 1], rewards=[1.0, 1.0, 0.0, 2.0, None])
    assert pairs_by_reward(batch) == [(0, 2), (1, 2)]
    assert pairs_by_author(batch) == [(4, 3)]


@pytest.mark.parametrize("mean", [False, True])
def test_the_credit_of_pairs_is_the_negated_gradient_of_their_mean_loss_and_its_shares_add_up(mean):
    batch, mask = step([S, S, S], [S], [S, S], groups=[0, 0, 0], rewards=[1.0, 0.0, 0.5])
    scores = numbers(-0.2, -0.5, -0.1, -1.5, -0.7, -0.3)
    leaf = scores.clone().requires_grad_()

    def total(*rows: int) -> torch.Tensor:
        return leaf[list(rows)].mean() if mean else leaf[list(rows)].sum()

    a, b, c = total(0, 1, 2), total(3), total(4, 5)
    losses = [torch.log1p(torch.exp(-0.5 * margin)) for margin in (a - b, a - c, c - b)]
    expected = sum(losses) / 3
    (gradient,) = torch.autograd.grad(expected, leaf)
    found = credit_of_pairs(
        pairs_by_reward(batch),
        batch,
        scores,
        mask,
        lambda x, y: logistic(x, y, beta=0.5),
        mean=mean,
        gather=lambda local: local,
    )
    torch.testing.assert_close(found.advantage, -gradient)
    torch.testing.assert_close(found.value.sum(), expected.detach())


def test_no_pair_gives_no_credit():
    batch, mask = step([S], [S], groups=[0, 1], rewards=[1.0, 0.0])
    found = credit_of_pairs((), batch, numbers(-1, -2), mask, odds_ratio, mean=True, gather=lambda local: local)
    assert found.advantage.tolist() == found.value.tolist() == [0.0, 0.0]


def test_the_odds_ratio_of_equal_responses_is_log_two_and_certainty_keeps_it_finite():
    same = numbers(-0.4)
    torch.testing.assert_close(odds_ratio(same, same), numbers(2.0).log())
    assert odds_ratio(numbers(0.0), numbers(-1.0)).isfinite().all()
