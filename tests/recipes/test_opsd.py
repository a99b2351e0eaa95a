from dataclasses import replace

import pytest
import torch

from enumeration import batch_of, kl, outcome, pair
from tutelage.errors import ConfigError
from tutelage.recipes import gkd, opsd
from tutelage.run.preflight import check_recipe
from tutelage.teachers.parts import Average, Frozen, Live, NoContext, ReferenceSolution, SelfTeacher
from tutelage.types import Author

TEMPERATURE = 1.1


def single(student, teacher, **knobs):
    return outcome(opsd(**knobs), batch_of([0], torch.zeros(1)), student, teacher)


@pytest.mark.parametrize("knobs", [{}, {"entry_cap": None}, {"beta": 0.5}, {"beta": 1.0}])
def test_a_teacher_that_knows_no_more_than_the_student_teaches_nothing(knobs):
    student, _ = pair()
    found = single(student, student, **knobs)
    assert abs(found.loss) < 1e-14
    assert found.gradient.abs().max() < 1e-14


def test_a_live_teacher_without_a_context_is_pointed_out_before_the_run():
    recipe = replace(opsd(), teacher=SelfTeacher(update=Live(), context=NoContext()))
    assert any("every divergence between them is zero" in note for note in check_recipe(recipe))
    assert not any("zero" in note for note in check_recipe(opsd()))


@pytest.mark.parametrize("seed", range(3))
def test_without_a_cap_it_is_the_forward_kl_at_its_temperature(seed):
    student, teacher = pair(seed=seed)
    found = single(student, teacher, entry_cap=None)
    assert found.loss == pytest.approx(kl(teacher / TEMPERATURE, student / TEMPERATURE))
    expected = ((student / TEMPERATURE).softmax(-1) - (teacher / TEMPERATURE).softmax(-1)) / TEMPERATURE
    torch.testing.assert_close(found.gradient[0], expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_cap_bounds_the_sum_by_the_number_of_entries_where_the_teacher_has_more(seed):
    student, teacher = pair(seed=seed, spread=4.0)
    more = int(((teacher / TEMPERATURE).softmax(-1) > (student / TEMPERATURE).softmax(-1)).sum())
    capped, whole = single(student, teacher).loss, single(student, teacher, entry_cap=None).loss
    assert capped <= 0.05 * more + 1e-12
    assert capped < whole


def test_the_capped_sum_can_be_negative():
    student = torch.tensor([4.0, 4.0, 0.0], dtype=torch.float64)
    teacher = torch.tensor([0.0, 3.0, 4.0], dtype=torch.float64)
    assert single(student, teacher).loss < 0.0 < single(student, teacher, entry_cap=None).loss


def test_entries_at_the_cap_give_no_gradient():
    student, teacher = pair(spread=4.0)
    own, theirs = (student / TEMPERATURE).softmax(-1), (teacher / TEMPERATURE).softmax(-1)
    free = theirs * (theirs.log() - own.log()) < 0.05
    assert free.any()
    assert not free.all()
    # each free entry's term is pi_T log(pi_T / pi_S), whose gradient is pi_T (pi_S - its own one-hot)
    expected = ((theirs * free).sum() * own - theirs * free) / TEMPERATURE
    torch.testing.assert_close(single(student, teacher).gradient[0], expected)


def test_a_wide_cap_is_none_at_all():
    student, teacher = pair()
    torch.testing.assert_close(
        single(student, teacher, entry_cap=100.0).gradient, single(student, teacher, entry_cap=None).gradient
    )


def test_the_first_releases_divergence_is_that_of_gkd_at_one_half():
    student, teacher = pair()
    theirs = outcome(gkd(beta=0.5), batch_of([0], torch.zeros(1)), student / TEMPERATURE, teacher / TEMPERATURE)
    assert single(student, teacher, beta=0.5).loss == pytest.approx(theirs.loss)


def test_every_response_counts_the_same_whatever_its_length():
    assert opsd().terms[0].reduction.kind == "sequence_mean"


def test_only_the_students_tokens_are_taught():
    student, teacher = pair()
    batch = batch_of([0, 1, 2], torch.zeros(3), authors=[Author.STUDENT, Author.DATASET, Author.TEACHER])
    found = outcome(opsd(), batch, student, teacher).gradient
    assert found[0].abs().max() > 0.0
    assert found[1:].abs().max() == 0.0


def test_defaults_are_the_published_ones():
    recipe = opsd()
    sampling = recipe.rollouts.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.n) == (1.1, 0.95, 20, 1)
    assert (recipe.temperatures.student, recipe.temperatures.teacher) == (1.1, 1.1)
    teacher = recipe.teacher
    assert isinstance(teacher, SelfTeacher)
    assert isinstance(teacher.update, Frozen)
    assert isinstance(teacher.context, ReferenceSolution)
    assert teacher.context.column == "solution"


def test_the_teacher_may_be_a_moving_average():
    teacher = opsd(average_rate=0.001).teacher
    assert isinstance(teacher, SelfTeacher)
    assert teacher.update == Average(rate=0.001)


@pytest.mark.parametrize(("knobs", "message"), [({"beta": 2.0}, "beta must be"), ({"entry_cap": 0.0}, "entry_cap > 0")])
def test_knobs_out_of_range_are_refused(knobs, message):
    with pytest.raises(ConfigError, match=message):
        opsd(**knobs)
