import pytest
import torch

from enumeration import batch_of, outcome, pair
from tutelage.lab.exact import Size, make, moments
from tutelage.lab.exact.outcomes import outcomes
from tutelage.objectives import NoRatio, ReverseKL, ScoreFunction
from tutelage.recipes import gkd
from tutelage.recipes.behaviour import trb
from tutelage.rollouts.sources import BlendedRollouts
from tutelage.types.schedules import value_at

WORLD = make(Size(vocab=4, length=2), seed=5)


def test_when_the_ball_is_gone_it_is_the_reverse_kl_on_the_students_own_responses():
    found = moments(WORLD, trb(warmup_steps=10, k=4), step=10)
    expected = moments(WORLD, gkd(beta=1.0, student_fraction=1.0))
    torch.testing.assert_close(found.gradient, expected.gradient)
    assert found.value == pytest.approx(expected.value)


def test_a_large_ball_writes_as_the_teacher_does_and_a_small_one_in_between():
    def chances(recipe, step=0):
        return torch.tensor([found.probability for found in outcomes(WORLD, recipe.rollouts, step=step)], dtype=torch.float64)

    teacher = WORLD.teachers["teacher"].log_softmax(-1)
    whole = torch.stack(
        [teacher[path, torch.tensor(tokens)].sum().exp() for path, tokens in zip(WORLD.paths, WORLD.responses, strict=True)]
    )
    torch.testing.assert_close(chances(trb(radius=1000.0)), whole)
    own = chances(trb(), step=1000)
    middle = chances(trb(radius=0.05))
    assert float(middle.sum()) == pytest.approx(1.0)

    def gap(p):
        return float((p * (p / whole).log()).sum())

    assert 0.0 < gap(middle) < gap(own)


def test_the_loss_of_a_prefix_does_not_depend_on_who_drew_its_token():
    student, teacher = pair()
    one = outcome(trb(k=7), batch_of([0, 1], torch.tensor([-0.1, -5.0])), student, teacher)
    other = outcome(trb(k=7), batch_of([0, 1], torch.tensor([-3.0, -0.2])), student, teacher)
    assert one.loss == other.loss
    torch.testing.assert_close(one.gradient, other.gradient, rtol=0.0, atol=0.0)


def test_the_radius_falls_along_a_line_to_zero():
    rollouts = trb(radius=0.4, warmup_steps=8).rollouts
    assert isinstance(rollouts, BlendedRollouts)
    radii = [value_at(rollouts.radius, step) for step in range(10)]
    assert radii == pytest.approx([0.4 * max(1 - step / 8, 0.0) for step in range(10)])
    assert all(isinstance(term.signal, ReverseKL) for term in trb().terms)
    assert not any(isinstance(term.signal, ScoreFunction | NoRatio) for term in trb().terms)
