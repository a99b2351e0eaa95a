import pytest
import torch

from enumeration import batch_of, kl, outcome, pair
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, make, moments
from tutelage.lab.exact.outcomes import outcomes
from tutelage.objectives import ReverseKL
from tutelage.recipes import gkd
from tutelage.recipes.horizons import esr
from tutelage.rollouts.sources import StudentRollouts

WORLD = make(Size(vocab=3, length=3, end=True), seed=3)


def test_the_loss_is_the_mean_exact_reverse_kl():
    student, teacher = pair()
    found = outcome(esr(), batch_of([0, 1, 2], torch.zeros(3)), student, teacher)
    assert found.loss == pytest.approx(kl(student, teacher))


@pytest.mark.parametrize("horizon", [3, 4, 100])
def test_a_horizon_beyond_the_longest_response_is_the_reverse_kl_on_whole_responses(horizon):
    found, whole = moments(WORLD, esr(horizon=horizon)), moments(WORLD, gkd(beta=1.0, student_fraction=1.0))
    torch.testing.assert_close(found.gradient, whole.gradient, rtol=0.0, atol=0.0)
    assert (found.value, found.variance) == (whole.value, whole.variance)


@pytest.mark.parametrize("horizon", [1, 2])
def test_tokens_beyond_the_horizon_are_never_written_and_shorter_responses_stay(horizon):
    written = [step.draws[0].rollout for step in outcomes(WORLD, esr(horizon=horizon).rollouts)]
    texts = [tuple(rollout.response_ids.tolist()) for rollout in written]
    assert len(set(texts)) == len(texts)
    assert set(texts) == {response[:horizon] for response in WORLD.responses}
    assert {rollout.finish for rollout in written if int(rollout.response_ids[-1]) != 2} == {"length"}


@pytest.mark.parametrize("horizon", [1, 2])
def test_what_lies_beyond_the_horizon_has_no_part_in_loss_and_gradient(horizon):
    found = moments(WORLD, esr(horizon=horizon))
    chances = [step.probability for step in outcomes(WORLD, esr(horizon=horizon).rollouts)]
    assert sum(chances) == pytest.approx(1.0)
    within = {int(row) for path in WORLD.paths for row in path[:horizon]}
    touched = set(found.gradient.abs().sum(-1).nonzero().squeeze(-1).tolist())
    assert touched == within


def test_defaults_are_the_published_ones():
    recipe = esr("folder")
    assert isinstance(recipe.rollouts, StudentRollouts)
    assert recipe.rollouts.horizon == 100
    assert [term.signal for term in recipe.terms] == [ReverseKL()]


def test_a_horizon_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="horizon >= 1"):
        esr(horizon=0)
