import pytest
import torch

import steps
from tutelage.lab.exact import Size, make, moments
from tutelage.recipes import iw_opd, opd

VOCAB = 6


def one_response(length: int = 5, *, stretch: float = 1.0):
    """Tokens whose log-ratios to the sampler are `stretch` times those of the teacher to the student."""
    tokens = [time % VOCAB for time in range(length)]
    student, teacher = steps.logits(length), steps.logits(length, seed=1)
    fresh = steps.step(tokens, student=student, teacher=teacher)
    theirs = steps.log_prob(fresh, teacher)
    worth = stretch * (theirs - steps.log_prob(fresh, student))
    return steps.step(tokens, student=student, teacher=teacher, behaviour=theirs - worth), worth


def weights(given, worth, boost: float) -> torch.Tensor:
    """What the recipe's gradient has more than `-A score`, row by row."""
    found = steps.gradient(iw_opd(boost=boost), given) * len(worth)
    plain = -steps.by_row(worth, steps.score(given))
    return found[:, 0] / plain[:, 0]


def test_without_a_boost_it_is_opd_without_a_ratio():
    given, _ = one_response()
    torch.testing.assert_close(steps.gradient(iw_opd(boost=0.0), given), steps.gradient(opd(), given))
    world = make(Size(vocab=3, length=2))
    torch.testing.assert_close(moments(world, iw_opd(boost=0.0, n=1, top_p=1.0)).gradient, moments(world, opd(n=1)).gradient)


def test_the_first_weight_is_one_plus_gamma_and_the_last_has_only_its_own_share_left():
    given, worth = one_response()
    found = weights(given, worth, 0.5)
    assert found[0] == pytest.approx(1.5)
    assert found[-1] == pytest.approx(1.0 + 0.5 * float(worth[-1].abs() / worth.abs().sum()))
    assert (found.diff() <= 0.0).all()


def test_every_weight_is_what_is_left_of_the_disagreement():
    given, worth = one_response(7)
    size = worth.abs().tolist()
    expected = [1.0 + 0.5 * (1.0 - sum(size[:time]) / sum(size)) for time in range(7)]
    torch.testing.assert_close(weights(given, worth, 0.5), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("stretch", [0.01, 3.0, -2.0])
def test_scaling_all_disagreements_changes_no_weight(stretch):
    (given, worth), (stretched, more) = one_response(), one_response(stretch=stretch)
    torch.testing.assert_close(weights(stretched, more, 0.5), weights(given, worth, 0.5), rtol=1e-5, atol=1e-6)  # epsilon


def test_where_both_sides_agree_throughout_nothing_is_lost_and_every_weight_is_whole():
    given, _ = one_response(stretch=0.0)
    recipe = iw_opd(boost=0.5)
    measured = {"teacher_log_prob": given.batch.behaviour_log_probs}
    everybody = torch.ones(5, dtype=torch.bool)
    found = recipe.terms[0].weights[0](given.batch, measured, everybody, step=0, gather=lambda local: local)
    assert found.tolist() == [1.5] * 5
    assert steps.gradient(recipe, given).abs().max() < 1e-14


def test_every_response_starts_anew():
    student, teacher = steps.logits(6), steps.logits(6, seed=1)
    both = steps.step([0, 1, 2], [3, 4, 5], student=student, teacher=teacher)
    halves = [
        steps.step(ids, student=student[rows], teacher=teacher[rows])
        for ids, rows in (([0, 1, 2], slice(0, 3)), ([3, 4, 5], slice(3, 6)))
    ]
    expected = torch.cat([steps.gradient(iw_opd(), half) for half in halves]) / 2
    torch.testing.assert_close(steps.gradient(iw_opd(), both), expected)
