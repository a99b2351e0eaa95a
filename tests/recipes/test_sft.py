import pytest
import torch

from enumeration import batch_of, outcome, pair
from tutelage.recipes import sft
from tutelage.rollouts.sources import DatasetRollouts, TeacherRollouts
from tutelage.types import Author


@pytest.mark.parametrize("author", [Author.DATASET, Author.TEACHER])
def test_the_gradient_is_the_students_distribution_minus_the_token(author):
    student, teacher = pair()
    tokens = [3, 0, 6]
    found = outcome(sft(), batch_of(tokens, torch.zeros(3), authors=[author]), student, teacher).gradient
    one_hot = torch.eye(len(student), dtype=torch.float64)[tokens]
    torch.testing.assert_close(found * len(tokens), student.softmax(-1) - one_hot)


def test_the_loss_is_the_mean_negative_log_likelihood():
    student, teacher = pair()
    found = outcome(sft(), batch_of([3, 0], torch.zeros(2), authors=[Author.DATASET]), student, teacher)
    assert found.loss == pytest.approx(-float(student.log_softmax(-1)[[3, 0]].mean()))


def test_the_students_own_tokens_are_not_imitated():
    student, teacher = pair()
    found = outcome(sft(), batch_of([3, 0], torch.zeros(2)), student, teacher)
    assert found.loss == 0.0
    assert found.gradient.abs().max() == 0.0


def test_the_data_needs_no_teacher_and_the_teachers_text_needs_one():
    assert sft().teacher is None
    assert sft().rollouts == DatasetRollouts(column="response", max_tokens=256)
    assert not sft().teacher_writes
    written = sft("folder", source="teacher", n=3)
    assert isinstance(written.rollouts, TeacherRollouts)
    assert written.rollouts.sampling.n == 3
    assert written.teacher_writes
    assert written.needs == frozenset(), "its probabilities are not asked for"


def test_a_teacher_beside_the_data_is_kept_to_measure_with():
    recipe = sft("folder")
    assert recipe.teacher is not None
    assert isinstance(recipe.rollouts, DatasetRollouts)
