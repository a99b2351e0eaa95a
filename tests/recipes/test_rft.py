from dataclasses import replace

import pytest
import torch

import dense
from tutelage.recipes import sft
from tutelage.recipes.baselines import rft
from tutelage.types import Author, Verdict


def step(verdicts: tuple[bool | None, ...]) -> dense.Problem:
    given = dense.problem(lengths=(4, 2, 5), groups=(0, 0, 1), rewards=(1.0, 0.0, 1.0))
    return replace(given, batch=replace(given.batch, verdicts=tuple(Verdict(correct=right) for right in verdicts)))


def gradients(recipe, given: dense.Problem) -> list[torch.Tensor]:
    return dense.gradients(dense.evaluate(recipe.terms, given).loss, given)


def imitating(given: dense.Problem, rollouts: list[int]) -> list[torch.Tensor]:
    """Gradients of the mean negative log-likelihood of all tokens of some rollouts, from plain log-probabilities."""
    own = dense.tables(given)[0].gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)
    kept = torch.isin(given.batch.rollout, torch.tensor(rollouts))
    return list(torch.autograd.grad(-own[kept].mean(), given.leaves))


@pytest.mark.parametrize("verdicts", [(True, True, True), (True, False, True), (False, None, True)])
def test_it_is_the_mean_over_the_tokens_of_right_responses_only(verdicts):
    given = step(verdicts)
    expected = imitating(given, [place for place, right in enumerate(verdicts) if right])
    for ours, theirs in zip(gradients(rft(), given), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_where_all_are_right_it_is_sft_on_the_same_responses():
    given = step((True, True, True))
    as_data = replace(given, batch=replace(given.batch, author=torch.full_like(given.batch.author, int(Author.DATASET))))
    for ours, theirs in zip(gradients(rft(), given), gradients(sft(), as_data), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0.0)


def test_where_none_is_right_nothing_moves():
    for gradient in gradients(rft(), step((False, None, False))):
        assert not gradient.any()


def test_a_verifier_is_needed_that_says_right_or_wrong():
    assert rft().verdicts == {"correct"}
    assert rft().teacher is None
