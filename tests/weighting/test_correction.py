"""Who wrote a token, and how sure its teacher is."""

from math import exp

import pytest
import torch

import dense
from tutelage.errors import ConfigError
from tutelage.types import Author, StepBatch
from tutelage.weighting import ImportanceWeight, Rows, TeacherCertainty


def rows(behaviour: list[float]) -> Rows:
    """Two entries, the first with probability 0.8, was written each time."""
    student = torch.tensor([[0.8, 0.2]], dtype=torch.float64).log().expand(len(behaviour), 2)
    written = dense.rollout([0] * len(behaviour), [Author.STUDENT] * len(behaviour), torch.tensor(behaviour).double())
    return Rows(student=student, teachers={}, batch=StepBatch.of([written]))


def test_the_ratio_to_the_sampler_is_bounded_from_above_only():
    log = torch.tensor([0.8, 0.4, 0.2, 0.99], dtype=torch.float64).log()
    found = ImportanceWeight(cap=2.0)(rows(log.tolist()), teacher="teacher")
    assert found.tolist() == pytest.approx([1.0, 2.0, 2.0, 0.8 / 0.99], rel=1e-6)


def test_a_sampler_that_would_never_have_written_it_breaks_nothing():
    found = ImportanceWeight(cap=float("inf"))(rows([-1000.0, 900.0]), teacher="teacher")
    assert found.tolist() == pytest.approx([exp(20.0), exp(-20.0)])


def test_a_token_that_the_student_did_not_write_has_weight_one():
    assert ImportanceWeight()(rows([torch.nan]), teacher="teacher").tolist() == [1.0]


def test_certainty_falls_exponentially_and_averages_to_one_over_the_terms_tokens():
    batch = dense.problem(lengths=(4,)).batch
    entropy, mask = torch.tensor([0.0, 1.0, 2.0, torch.nan]), torch.tensor([True, True, True, False])
    found = TeacherCertainty(rate=0.5)(batch, {"teacher_entropy_nats": entropy}, mask, step=0, gather=lambda local: local)[:3]
    size = [1.0, exp(-0.5), exp(-1.0)]
    assert found.tolist() == pytest.approx([3.0 * each / sum(size) for each in size])


def test_without_a_rate_all_tokens_are_alike():
    batch = dense.problem(lengths=(3,)).batch
    found = TeacherCertainty(rate=0.0)(
        batch, {"teacher_entropy_nats": torch.rand(3)}, torch.ones(3, dtype=torch.bool), step=0, gather=lambda local: local
    )
    assert found.tolist() == [1.0] * 3


@pytest.mark.parametrize("make", [lambda: ImportanceWeight(cap=0.0), lambda: TeacherCertainty(rate=-1.0)])
def test_settings_that_mean_nothing_are_refused(make):
    with pytest.raises(ConfigError, match="needs"):
        make()
