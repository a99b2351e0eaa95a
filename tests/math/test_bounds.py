"""Bounds of a divergence of which only a few entries are known: against the whole one, and where they are reached."""

import pytest
import torch

from tutelage.math.bounds import forward_kl_bounds
from tutelage.math.divergences import forward_kl


def pair(vocab: int, *, seed: int, sharpness: float = 2.0):
    draws = torch.Generator().manual_seed(seed)
    return [(sharpness * torch.randn(200, vocab, generator=draws, dtype=torch.float64)).log_softmax(-1) for _ in range(2)]


@pytest.mark.parametrize("k", [1, 3, 11, 12])
@pytest.mark.parametrize("seed", range(3))
def test_the_whole_divergence_lies_between_the_bounds(k, seed):
    student, teacher = pair(12, seed=seed)
    top = teacher.topk(k, dim=-1)
    lower, upper = forward_kl_bounds(student, top.indices, top.values)
    truth = forward_kl(student, teacher)
    assert bool((lower <= truth + 1e-12).all())
    assert bool((upper >= truth - 1e-12).all())
    if k == 12:
        torch.testing.assert_close(lower, truth)
        torch.testing.assert_close(upper, truth)


def test_both_bounds_close_as_more_entries_are_known():
    student, teacher = pair(50, seed=0)
    widths = []
    for k in (1, 5, 20, 40):
        top = teacher.topk(k, dim=-1)
        lower, upper = forward_kl_bounds(student, top.indices, top.values)
        widths.append(float((upper - lower).mean()))
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.05 * widths[0]


def test_the_lower_bound_is_reached_by_a_tail_that_is_the_students():
    student, teacher = pair(12, seed=1, sharpness=0.5)
    top = teacher.topk(2, dim=-1)
    tail = student.scatter(-1, top.indices, float("-inf")).log_softmax(-1) + torch.log1p(
        -top.values.exp().sum(-1, keepdim=True)
    )
    whole = tail.scatter(-1, top.indices, top.values)
    fits = (tail.max(-1).values <= top.values[:, -1]).nonzero().squeeze(-1)  # else these were not the likeliest
    assert len(fits) > 5
    lower, _ = forward_kl_bounds(student, top.indices, top.values)
    torch.testing.assert_close(lower[fits], forward_kl(student, whole)[fits])


def test_the_upper_bound_is_reached_by_a_tail_on_what_the_student_gives_least():
    student, _ = pair(6, seed=2)
    ids = student.topk(
        2, dim=-1
    ).indices  # the teacher's likeliest entries, 0.4 and 0.25; 0.35 is left: one of 0.25, one of 0.1
    teacher = torch.zeros_like(student)
    least = student.sort(dim=-1).indices
    teacher.scatter_(-1, ids, torch.tensor([0.4, 0.25], dtype=torch.float64).expand(len(ids), 2))
    teacher.scatter_(-1, least[:, :2], torch.tensor([0.25, 0.1], dtype=torch.float64).expand(len(ids), 2))
    kept = torch.tensor([0.4, 0.25], dtype=torch.float64).log().expand(len(ids), 2)
    _, upper = forward_kl_bounds(student, ids, kept)
    torch.testing.assert_close(upper, forward_kl(student, teacher.log()))
