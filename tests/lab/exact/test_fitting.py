from dataclasses import replace

import pytest

from tables import recipe
from tutelage import objectives as o
from tutelage.lab.exact import end_of_ramps, fit
from tutelage.recipes import REGISTRY, gkd, opd, sft, tropd, vopd
from tutelage.recipes.costs import cost_of
from tutelage.types.schedules import Cosine, Linear
from tutelage.weighting import EntropyAbove


def test_what_is_larger_than_the_world_is_lowered_and_told():
    fitted, notes = fit(tropd(k=64, n=4), vocab=5, most_n=2)
    assert fitted == tropd(k=5, n=2)
    assert notes == ("Sampling.n lowered from 4 to 2", "TopK.k lowered from 64 to 5")
    fitted, notes = fit(vopd(baseline_k=100), vocab=5, most_n=1)
    assert fitted == vopd(baseline_k=5)
    assert notes == ("StudentKLBaseline.k lowered from 100 to 5",)


def test_what_fits_stays_as_it_is():
    for method in (gkd(), vopd(baseline_k=3), vopd(baseline_k=0), tropd(k=2, n=1)):
        assert fit(method, vocab=4, most_n=1) == (method, ())


def test_schedules_have_arrived_when_the_longest_has():
    assert end_of_ramps(opd()) == 0
    assert end_of_ramps(tropd(prefix_steps=70)) == 70
    moving = recipe(o.ReverseKL(), o.ForwardKL())
    object.__setattr__(moving.terms[0], "scale", Linear(start=0.0, end=1.0, steps=90))
    object.__setattr__(moving.terms[1], "scale", Cosine(start=0.0, end=1.0, steps=30))
    assert end_of_ramps(moving) == 90


@pytest.mark.parametrize(
    ("method", "products", "forwards", "gives"),
    [
        (sft(), 3, (1, 0), "nothing"),
        (opd(), 4, (1, 1), "sampled"),
        (gkd(), 4, (1, 1), "full"),
        (vopd(), 4, (1, 1), "full"),
        (tropd(), 4, (1, 1), "top_k"),
    ],
)
def test_the_cost_is_read_off_the_parts(method, products, forwards, gives):
    found = cost_of(method)
    assert (found.head_products, found.teacher_gives) == (products, gives)
    assert (found.student_forwards, found.teacher_forwards) == forwards


def test_a_step_that_is_measured_first_takes_the_student_and_both_heads_twice():
    masked = recipe(o.ScoreFunction(advantage=o.LogRatio(baseline=o.StudentKLBaseline())))
    object.__setattr__(masked.terms[0], "weights", (EntropyAbove(),))
    found = cost_of(masked)
    assert (found.head_products, found.student_forwards, found.teacher_forwards) == (6, 2, 1)
    assert cost_of(opd(discount=1.0)) == replace(found, teacher_gives="sampled")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("opd", []),
        ("seq_kd", ["the teacher writes"]),
        ("trb", ["reads along"]),
        ("lightning", ["once"]),
        ("adwin", ["8 whole"]),
    ],
)
def test_what_is_written_beside_the_students_responses_is_told(name, told):
    found = cost_of(REGISTRY[name].recipe()).generation
    assert len(found) == len(told)
    assert all(word in line for word, line in zip(told, found, strict=True))


def test_every_teacher_that_scores_is_counted():
    assert cost_of(REGISTRY["selfci"].recipe()).teacher_forwards == 2
    assert cost_of(REGISTRY["exopd"].recipe()).head_products == cost_of(opd()).head_products + 1
