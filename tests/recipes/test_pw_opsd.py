from dataclasses import replace
from math import exp

import pytest
import torch

import steps
from tutelage.recipes import opsd, pw_opsd
from tutelage.teachers.parts import Frozen, ReferenceSolution, SelfTeacher
from tutelage.types import Author

VOCAB = 6


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + exp(-x))


def two_responses(first: int = 4, second: int = 7):
    rows = first + second
    ids = [time % VOCAB for time in range(rows)]
    return steps.step(ids[:first], ids[first:], student=steps.logits(rows), teacher=steps.logits(rows, seed=1))


def test_with_nothing_taken_from_early_tokens_it_is_opsd():
    assert replace(pw_opsd(), name="opsd", terms=opsd().terms) == opsd(), "but for the weight they are one recipe"
    given = two_responses()
    torch.testing.assert_close(steps.gradient(pw_opsd(floor=1.0), given), steps.gradient(opsd(), given), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("knobs", [{}, {"floor": 0.0, "centre": 0.5, "width": 0.02}])
def test_each_token_has_the_gradient_of_opsd_times_the_ramp_at_its_place(knobs):
    given = two_responses()
    floor, centre, width = (knobs.get(name, default) for name, default in (("floor", 0.25), ("centre", 0.3), ("width", 0.1)))
    ramp = [
        floor + (1.0 - floor) * sigmoid(((place - 0.5) / length - centre) / width)
        for length in (4, 7)
        for place in range(1, length + 1)
    ]
    expected = steps.by_row(torch.tensor(ramp, dtype=torch.float64), steps.gradient(opsd(), given))
    torch.testing.assert_close(steps.gradient(pw_opsd(**knobs), given), expected)
    for rows in (slice(0, 4), slice(4, 11)):
        part = ramp[rows]
        assert part == sorted(part)
        assert floor < part[0] < part[-1] < 1.0


def test_neither_other_responses_nor_others_tokens_move_the_ramp():
    ids = [0, 1, 2, 3]
    student, teacher = steps.logits(4), steps.logits(4, seed=1)
    alone = steps.gradient(pw_opsd(), steps.step(ids, student=student, teacher=teacher))
    wide, theirs = torch.cat([student, steps.logits(2, seed=5)]), torch.cat([teacher, steps.logits(2, seed=6)])
    beside = steps.gradient(pw_opsd(), steps.step(ids, [0, 1], student=wide, teacher=theirs))
    torch.testing.assert_close(beside[:4], alone / 2)  # the mean is now over two responses
    between = [Author.STUDENT, Author.NONE]
    padded = steps.step([0, 5, 1, 5, 2, 5, 3, 5], student=student, teacher=teacher, authors=between)
    torch.testing.assert_close(steps.gradient(pw_opsd(), padded), alone)


def test_the_teacher_is_the_student_before_training_with_the_solution():
    assert pw_opsd().teacher == SelfTeacher(update=Frozen(), context=ReferenceSolution())
