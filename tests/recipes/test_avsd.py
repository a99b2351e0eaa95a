from itertools import permutations

import pytest
import torch

import steps
from tutelage.recipes import avsd, opd

VOCAB = 5
NAMES = ("teacher", "half", "answer")


def every_token(student: torch.Tensor, *views: torch.Tensor):
    """All tokens of one prefix once, each a response of its own."""
    tables = {name: view.expand(VOCAB, VOCAB) for name, view in zip(NAMES, views, strict=True)}
    return steps.step(*[[token] for token in range(VOCAB)], student=student.expand(VOCAB, VOCAB), **tables)


def views(seed: int = 0, *, spread: float = 1.5) -> list[torch.Tensor]:
    return [steps.logits(1, VOCAB, seed=100 * seed + place, spread=spread)[0] for place in range(3)]


def consensus(student: torch.Tensor, tables: list[torch.Tensor]) -> torch.Tensor:
    """`log q*` before it is normalised, entry by entry with numbers."""
    found = []
    for entry in range(VOCAB):
        own = float(student.softmax(-1)[entry])
        probabilities = [float(table.softmax(-1)[entry]) for table in tables]
        logs = [torch.tensor(q, dtype=torch.float64).log() for q in probabilities]
        towards = [float(each - torch.tensor(own, dtype=torch.float64).log()) for each in logs]
        geometric = float(sum(logs)) / 3
        arithmetic = float(torch.tensor(sum(probabilities) / 3, dtype=torch.float64).log())
        assert arithmetic >= geometric - 1e-12
        mean, size = abs(sum(towards) / 3), sum(map(abs, towards)) / 3
        gate = mean / size * mean / (mean + arithmetic - geometric)
        assert 0.0 <= gate <= 1.0
        found.append(geometric + gate * (arithmetic - geometric))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_the_target_lies_where_the_views_agree_between_their_two_means(seed):
    student, tables = steps.logits(1, VOCAB, seed=999)[0], views(seed)
    given = every_token(student, *tables)
    worth = consensus(student, tables).log_softmax(-1) - student.log_softmax(-1)
    torch.testing.assert_close(steps.gradient(avsd(), given), -steps.by_row(worth, steps.score(given)) / VOCAB)


def test_equal_views_are_one_teacher():
    student, (view, *_) = steps.logits(1, VOCAB, seed=999)[0], views()
    given = every_token(student, view, view, view)
    torch.testing.assert_close(steps.gradient(avsd(), given), steps.gradient(opd(), given))


def test_no_order_of_the_views_matters():
    student, tables = steps.logits(1, VOCAB, seed=999)[0], views()
    found = [steps.gradient(avsd(), every_token(student, *order)) for order in permutations(tables)]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_views_that_all_say_what_the_student_says_teach_nothing_and_break_nothing():
    student = steps.logits(1, VOCAB, seed=999)[0]
    found = steps.gradient(avsd(), every_token(student, student, student, student))
    assert found.isfinite().all()
    assert found.abs().max() < 1e-14


def test_the_three_views_are_the_solution_its_beginning_and_the_answer():
    teachers = avsd(half=0.4).teachers
    assert [(name, part.context.column, part.context.share) for name, part in teachers.items()] == [
        ("teacher", "solution", 1.0),
        ("half", "solution", 0.4),
        ("answer", "answer", 1.0),
    ]
