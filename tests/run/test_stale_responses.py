"""Responses that an earlier student wrote: the signal is the present student's, and the ratio corrects for who drew."""

from dataclasses import replace

import pytest
import torch
from tests.steps import by_row, gradient, log_prob, logits, score, step, token_kl_gradient

from tutelage import recipes
from tutelage.objectives import Importance, ScoreFunction
from tutelage.recipes import Recipe
from tutelage.run.asynchrony import fit_ahead
from tutelage.training.settings import AsynchronousSettings

VOCAB = 6


def opd(cap: float | None) -> Recipe:
    recipe, _ = fit_ahead(recipes.opd("teacher"), AsynchronousSettings(staleness=1))
    (term,) = recipe.terms
    assert isinstance(term.signal, ScoreFunction)
    return replace(recipe, terms=(replace(term, signal=replace(term.signal, ratio=Importance(cap=cap))),))


@pytest.mark.parametrize("cap", [None, 1.2])
def test_the_gradient_on_stale_tokens_is_the_closed_form_with_the_truncated_ratio(cap):
    tokens = [[0, 3, 5], [2, 2]]
    now, before, teacher = (logits(5, VOCAB, seed=seed) for seed in (1, 2, 3))
    drawn = torch.tensor([token for response in tokens for token in response]).unsqueeze(-1)
    behaviour = before.log_softmax(-1).gather(-1, drawn).squeeze(-1)
    given = step(*tokens, student=now, behaviour=behaviour, teacher=teacher)
    rho = (log_prob(given, now) - behaviour).exp()
    assert bool((rho > 1.2).any()), "the cap must bite somewhere"
    assert bool((rho < 1.2).any())
    advantage = log_prob(given, teacher) - log_prob(given, now)  # of the student as it is, not of the one that wrote
    weight = rho if cap is None else rho.clamp(max=cap)
    torch.testing.assert_close(gradient(opd(cap), given), by_row(-weight * advantage / 5, score(given)))


def test_over_all_tokens_of_an_earlier_student_the_gradient_is_that_of_the_present_ones_divergence():
    now, before, teacher = (logits(1, VOCAB, seed=seed) for seed in (4, 5, 6))
    mu = before.log_softmax(-1)[0]
    expected = sum(
        mu[token].exp() * gradient(opd(None), step([token], student=now, behaviour=mu[token : token + 1], teacher=teacher))
        for token in range(VOCAB)
    )
    torch.testing.assert_close(expected, token_kl_gradient(now, teacher))
