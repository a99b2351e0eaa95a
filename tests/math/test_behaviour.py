from itertools import pairwise
from math import inf, log, sqrt

import pytest
import torch
from torch import Tensor

from tutelage.math.behaviour import geometric, largest_share, within_ball


def kl(p: Tensor, q: Tensor) -> float:
    """By its definition, entry by entry, from log-probabilities."""
    return sum(float(a.exp() * (a - b)) for a, b in zip(p, q, strict=True) if float(a) > -inf)


def pair(seed: int, *, vocab: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, vocab, generator=generator, dtype=torch.float64).mul(1.5).log_softmax(-1))  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(5))
def test_the_divergence_from_the_student_rises_with_the_share(seed):
    student, teacher = pair(seed)
    shares = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)
    found = [kl(geometric(student, teacher, share), student) for share in shares]
    assert all(one < other for one, other in pairwise(found))
    assert found[0] == pytest.approx(0.0, abs=1e-12)
    assert found[-1] == pytest.approx(kl(teacher, student))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("radius", [0.001, 0.05, 0.15])
def test_it_lies_on_the_sphere_and_no_feasible_perturbation_comes_closer_to_the_teacher(seed, radius):
    student, teacher = pair(seed)
    assert kl(teacher, student) > radius, "the example must need a blend"
    found = within_ball(student, teacher, radius=radius)
    assert kl(found, student) == pytest.approx(radius, rel=1e-6)
    assert kl(found, student) <= radius
    best, tried = kl(found, teacher), 0
    generator = torch.Generator().manual_seed(seed + 100)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(300):
            other = (found + size * torch.randn(6, generator=generator, dtype=torch.float64)).log_softmax(-1)
            if kl(other, student) <= radius:
                tried += 1
                assert kl(other, teacher) >= best - 1e-9
    assert tried > 50


def test_without_a_radius_it_is_the_student_and_with_a_large_one_the_teacher():
    student, teacher = pair(0)
    torch.testing.assert_close(within_ball(student, teacher, radius=0.0), student, rtol=0.0, atol=1e-15)
    for radius in (kl(teacher, student) + 1e-12, 100.0, inf):
        torch.testing.assert_close(within_ball(student, teacher, radius=radius), teacher, rtol=0.0, atol=1e-15)


def test_for_a_small_radius_the_gain_is_of_the_order_of_its_root():
    student, teacher = pair(1)
    gains = [
        (kl(student, teacher) - kl(within_ball(student, teacher, radius=radius), teacher)) / sqrt(radius)
        for radius in (1e-4, 1e-6, 1e-8)
    ]
    assert gains[1] == pytest.approx(gains[2], rel=0.01)
    assert gains[0] == pytest.approx(gains[1], rel=0.1)


def test_every_position_has_a_share_of_its_own():
    student, teacher = (torch.stack(side) for side in zip(pair(0), pair(1), pair(2), strict=True))
    shares = largest_share(student, teacher, radius=0.1)
    assert len(set(shares.tolist())) == 3
    for row in range(3):
        assert float(shares[row]) == float(largest_share(student[row], teacher[row], radius=0.1))


def test_what_one_side_rules_out_is_never_written_unless_the_other_side_writes_alone():
    student = torch.tensor([0.5, 0.5, 0.0]).log()
    teacher = torch.tensor([0.0, 0.2, 0.8]).log()
    assert 0.5 < log(2.0) < 0.8, "KL(mu || pi_S) of the only distribution that neither rules out"
    blend = within_ball(student, teacher, radius=0.8)
    assert torch.isfinite(blend).tolist() == [False, True, False]
    torch.testing.assert_close(within_ball(student, teacher, radius=0.5), student)
    torch.testing.assert_close(within_ball(student, teacher, radius=0.0), student)
    torch.testing.assert_close(within_ball(student, teacher, radius=inf), teacher)


@pytest.mark.parametrize("radius", [-0.1, float("nan")])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(ValueError, match="radius must be >= 0"):
        within_ball(*pair(0), radius=radius)
