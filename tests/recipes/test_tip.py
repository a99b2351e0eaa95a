from dataclasses import replace
from math import log

import pytest
import torch

import dense
import steps
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, make, moments
from tutelage.recipes import gkd, tip

VOCAB = 6


def one_response(length: int = 10, *, noise: torch.Tensor | None = None):
    student, teacher = steps.logits(length), steps.logits(length, seed=1)
    given = steps.step([time % VOCAB for time in range(length)], student=student, teacher=teacher)
    return given if noise is None else replace(given, batch=replace(given.batch, noise=noise))


def chosen(recipe, given) -> list[int]:
    """Rows that get any gradient."""
    return steps.gradient(recipe, given).abs().sum(-1).nonzero().squeeze(-1).tolist()


def entropy_share(table: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Categorical(logits=table).entropy() / log(VOCAB)


def divergence_share(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    mixture = (0.5 * student.softmax(-1) + 0.5 * teacher.softmax(-1)).log()
    return 0.5 * (steps.token_kl(student, mixture) + steps.token_kl(teacher, mixture)) / log(2.0)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_with_the_whole_share_it_is_the_divergence_on_every_token(beta):
    given = one_response()
    torch.testing.assert_close(
        steps.gradient(tip(ratio=1.0, beta=beta), given), steps.gradient(gkd(beta=beta, student_fraction=1.0), given)
    )


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
def test_a_share_of_the_tokens_is_drawn_and_the_loss_is_their_mean(ratio):
    given = one_response()
    kept = chosen(tip(ratio=ratio), given)
    assert len(kept) == round(10 * ratio)
    whole = 10 * steps.gradient(tip(ratio=1.0), given)
    torch.testing.assert_close(steps.gradient(tip(ratio=ratio), given)[kept], whole[kept] / len(kept))


def test_without_powers_the_draw_is_uniform_so_the_largest_noise_wins():
    noise = torch.rand(10, generator=torch.Generator().manual_seed(3))
    kept = chosen(tip(ratio=0.3, entropy_power=0.0, divergence_power=0.0), one_response(noise=noise))
    assert kept == sorted(noise.argsort(descending=True)[:3].tolist())


SCORES = {
    "entropy": ({}, lambda h, d: h),
    "squared": ({"entropy_power": 2.0}, lambda h, d: h**2),
    "product": ({"entropy_power": 0.5, "divergence_power": 2.0}, lambda h, d: h**0.5 * d**2),
    "either": ({"score": "either"}, lambda h, d: 1.0 - (1.0 - h) * (1.0 - d)),
}


@pytest.mark.parametrize(("knobs", "formula"), SCORES.values(), ids=SCORES.keys())
def test_of_two_tokens_each_is_drawn_as_often_as_its_score_says(knobs, formula):
    given = one_response(2)
    student, teacher = given.hidden.detach(), given.teachers["teacher"].hidden
    scores = formula(entropy_share(student), divergence_share(student, teacher))
    recipe = tip(ratio=0.5, **knobs)
    measured, everybody = dense.measure(given, recipe.terms), torch.ones(2, dtype=torch.bool)
    points = (torch.arange(25, dtype=torch.float32) + 0.5) / 25  # the middle of each cell of a grid over both noises
    wins = 0.0
    for noise in torch.cartesian_prod(points, points):
        batch = replace(given.batch, noise=noise)
        wins += float(recipe.terms[0].weights[0](batch, measured, everybody, step=0, gather=lambda local: local)[0])
    assert wins / 25**2 == pytest.approx(float(scores[0] / scores.sum()), abs=1.0 / 25)


def test_the_oracle_that_goes_token_by_token_says_why_it_cannot_take_it():
    with pytest.raises(ConfigError, match="draws a share of all tokens of a step"):
        moments(make(Size()), tip())


@pytest.mark.parametrize("knobs", [{"ratio": 0.0}, {"ratio": 1.1}, {"entropy_power": -1.0}, {"divergence_k": -1}])
def test_draws_that_mean_nothing_are_refused(knobs):
    with pytest.raises(ConfigError, match="ImportanceSampled needs"):
        tip(**knobs)
