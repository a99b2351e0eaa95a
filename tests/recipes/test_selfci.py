import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.recipes import gkd, selfci
from tutelage.teachers.parts import Average, Live

TOKENS = [0, 1, 2, 3]
REVERSE = gkd(beta=1.0, student_fraction=1.0)


def response(**teachers: torch.Tensor):
    return steps.step(TOKENS, student=steps.logits(4), **teachers)


@pytest.mark.parametrize(("allowed", "withheld"), [(1.0, 1.0), (0.8, 0.1), (0.0, 2.0), (1.5, 0.5)])
def test_both_terms_are_one_reverse_kl_to_the_product_of_experts_less_its_normaliser(allowed, withheld):
    first, second = steps.logits(4, seed=1), steps.logits(4, seed=2)
    given = response(teacher=first, withheld=second)
    total = allowed + withheld
    product = (allowed * first.log_softmax(-1) + withheld * second.log_softmax(-1)) / total
    share, log_normaliser = total / max(total, 1.0), product.logsumexp(-1)
    recipe = selfci(allowed_weight=allowed, withheld_weight=withheld)
    expected = share * (steps.token_kl(given.hidden.detach(), product) - log_normaliser).mean()
    assert steps.loss(recipe, given) == pytest.approx(float(expected))
    of_product = steps.gradient(REVERSE, response(teacher=product))
    torch.testing.assert_close(steps.gradient(recipe, given), share * of_product)


def test_equal_teachers_are_one():
    teacher = steps.logits(4, seed=1)
    given = response(teacher=teacher, withheld=teacher)
    torch.testing.assert_close(steps.gradient(selfci(), given), steps.gradient(REVERSE, given))
    assert steps.loss(selfci(), given) == pytest.approx(steps.loss(REVERSE, given))


def test_weights_below_one_in_all_shrink_the_loss_and_larger_ones_do_not_raise_it():
    given = response(teacher=steps.logits(4, seed=1), withheld=steps.logits(4, seed=2))
    even, small, large = (steps.loss(selfci(allowed_weight=w, withheld_weight=w), given) for w in (0.5, 0.25, 10.0))
    assert small == pytest.approx(0.5 * even)
    assert large == pytest.approx(even)


def test_each_teacher_is_the_student_with_a_column_of_its_own():
    recipe = selfci(allowed_column="share", withheld_column="hide", average_rate=0.001)
    assert {name: part.context.column for name, part in recipe.teachers.items()} == {"teacher": "share", "withheld": "hide"}
    assert {part.update for part in recipe.teachers.values()} == {Average(rate=0.001)}
    assert {part.update for part in selfci().teachers.values()} == {Live()}


def test_negative_weights_are_refused():
    with pytest.raises(ConfigError, match="weights >= 0"):
        selfci(allowed_weight=-1.0)
