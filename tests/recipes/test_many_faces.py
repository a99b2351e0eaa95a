from dataclasses import replace
from math import e

import pytest
import torch

import steps
from enumeration import every_token, mean_over, pair
from tutelage.objectives import ReverseKL, TopK
from tutelage.recipes import Recipe, many_faces, opd

VOCAB = 6


def plain_sum(k: int) -> Recipe:
    """The sum over the same entries, differentiated as it stands."""
    recipe = many_faces(k=k)
    truncated = ReverseKL(support=TopK(k=k, chosen_by="student", rest="truncate"))
    return replace(recipe, terms=(replace(recipe.terms[0], signal=truncated),))


def one_token(own: list[float], theirs: list[float], *, recipe: Recipe) -> torch.Tensor:
    student, teacher = (torch.tensor([p], dtype=torch.float64).log() for p in (own, theirs))
    return steps.gradient(recipe, steps.step([0], student=student, teacher=teacher))[0]


@pytest.mark.parametrize("k", [1, 3, VOCAB])
def test_the_plain_sum_has_the_students_probability_more_in_each_entry(k):
    student, teacher = steps.logits(4), steps.logits(4, seed=1)
    given = steps.step([0, 1, 2, 3], student=student, teacher=teacher)
    own = student.softmax(-1)
    kept = torch.zeros_like(own).scatter(-1, own.argsort(dim=-1, descending=True)[:, :k], 1.0)
    more = own * kept - own * (own * kept).sum(-1, keepdim=True)  # sum_{v kept} p_v grad log p_v
    difference = steps.gradient(plain_sum(k), given) - steps.gradient(many_faces(k=k), given)
    torch.testing.assert_close(difference, more / 4)
    if k == VOCAB:
        assert more.abs().max() < 1e-15


@pytest.mark.parametrize("seed", range(3))
def test_with_all_entries_every_token_has_the_mean_gradient_of_opd(seed):
    student, teacher = pair(seed=seed)
    found = every_token(many_faces(k=len(student)), student, teacher)
    mean = mean_over(student.softmax(-1), every_token(opd(), student, teacher))
    torch.testing.assert_close(found, mean.expand_as(found))


@pytest.mark.parametrize("ratio", [1.1, 0.9 * e])
def test_an_entry_is_raised_as_soon_as_the_teacher_gives_it_more(ratio):
    own, theirs = [0.3, 0.25, 0.25, 0.2], [0.3 * ratio, *[(1.0 - 0.3 * ratio) / 3.0] * 3]
    assert one_token(own, theirs, recipe=many_faces(k=1))[0] < 0.0  # against the gradient, so upwards
    assert one_token(own, theirs, recipe=plain_sum(1))[0] > 0.0, "the plain sum raises only what the teacher gives e times more"


def test_beyond_e_times_both_raise_the_entry():
    theirs = [0.3 * 1.1 * e, *[(1.0 - 0.33 * e) / 3.0] * 3]
    for recipe in (many_faces(k=1), plain_sum(1)):
        assert one_token([0.3, 0.25, 0.25, 0.2], theirs, recipe=recipe)[0] < 0.0


def test_the_drawn_token_joins_the_kept_ones():
    own, theirs = [0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]
    student, teacher = (torch.tensor([p], dtype=torch.float64).log() for p in (own, theirs))
    given = steps.step([3], student=student, teacher=teacher)
    without, both = (steps.loss(many_faces(k=1, include_sampled=on), given) for on in (False, True))
    p, log_p = student[0].exp(), student[0]
    assert both - without == pytest.approx(float(p[3] * (log_p[3] - teacher[0, 3]) * log_p[3]))
