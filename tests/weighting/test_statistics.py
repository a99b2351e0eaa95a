"""Statistics of a row against sets and sums on small tables."""

from dataclasses import replace
from itertools import pairwise
from math import log

import pytest
import torch

import dense
from tutelage.weighting import Rows, TeacherRows
from tutelage.weighting.statistics import Compatibility, DivergenceShare, EntropyShare, UnionDivergence

VOCAB = 6


def view(student: torch.Tensor, teacher: torch.Tensor) -> Rows:
    """Rows with given log-probabilities."""
    batch = dense.problem(lengths=(len(student),), vocab=VOCAB).batch
    said = TeacherRows(log_probs=teacher, sampled=teacher.gather(-1, batch.token.unsqueeze(-1)).squeeze(-1))
    return Rows(student=student, teachers={"teacher": said}, batch=batch)


def random_view(rows: int = 50, *, spread: float = 4.0) -> Rows:
    generator = torch.Generator().manual_seed(0)
    own, theirs = spread * torch.randn(2, rows, VOCAB, generator=generator, dtype=torch.float64)
    return view(own.log_softmax(-1), theirs.log_softmax(-1))


def table(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


EVERY = [EntropyShare(), DivergenceShare(), DivergenceShare(k=2), Compatibility(k=3)]


@pytest.mark.parametrize("statistic", EVERY, ids=lambda statistic: statistic.name)
def test_shares_lie_between_nothing_and_everything(statistic):
    found = statistic(random_view(), teacher="teacher")
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert found.std() > 0.01


def test_the_entropys_share_is_whole_where_all_entries_are_alike_and_nothing_where_one_is_sure():
    sure = [1.0 - 5e-16, *[1e-16] * 5]
    found = EntropyShare()(view(table([1 / 6] * 6, sure), table(sure, sure)), teacher="teacher")
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0], dtype=torch.float64), rtol=0.0, atol=1e-13)


def test_the_divergences_share_is_nothing_between_equals_and_whole_between_strangers():
    left, right = [0.5, 0.3, 0.2, 1e-20, 1e-20, 1e-20], [1e-20, 1e-20, 1e-20, 0.2, 0.3, 0.5]
    found = DivergenceShare()(view(table(left, left), table(left, right)), teacher="teacher")
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0.0, atol=1e-12)


def test_merging_the_unlikely_entries_only_hides_differences():
    rows = random_view()
    coarse = [DivergenceShare(k=k)(rows, teacher="teacher") for k in (1, 2, 4, 0)]
    assert all((more >= less - 1e-12).all() for less, more in pairwise(coarse))


def test_few_entries_and_one_for_the_rest_are_the_divergence_between_merged_tables():
    rows = random_view(8)
    p, q = rows.student.exp(), rows.teachers["teacher"].full().exp()
    kept = q.argsort(dim=-1, descending=True)[:, :2]
    p, q = (torch.cat([x.gather(-1, kept), 1.0 - x.gather(-1, kept).sum(-1, keepdim=True)], dim=-1) for x in (p, q))
    m = 0.5 * (p + q)
    expected = 0.5 * ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / log(2.0)
    torch.testing.assert_close(DivergenceShare(k=2)(rows, teacher="teacher"), expected)


def test_the_union_divergence_by_sets():
    rows = random_view(20)
    expected = []
    for own, theirs in zip(rows.student.exp(), rows.teachers["teacher"].full().exp(), strict=True):
        union = sorted({*own.topk(2).indices.tolist(), *theirs.topk(2).indices.tolist()})
        p, q = own[union] / own[union].sum(), theirs[union] / theirs[union].sum()
        expected.append((q * (q / p).log()).sum())
    torch.testing.assert_close(UnionDivergence(k=2)(rows, teacher="teacher"), torch.stack(expected))


def test_equal_sides_do_not_differ_and_hold_each_others_likeliest_entries():
    rows = random_view()
    rows = replace(rows, teachers={"teacher": replace(rows.teachers["teacher"], log_probs=rows.student)})
    assert UnionDivergence(k=3)(rows, teacher="teacher").abs().max() < 1e-12
    torch.testing.assert_close(Compatibility(k=3)(rows, teacher="teacher"), torch.ones(50, dtype=torch.float64))


def test_disjoint_likeliest_entries_share_no_mass_and_one_of_two_shares_its_own():
    own = [0.4, 0.3, 0.1, 0.1, 0.05, 0.05]
    disjoint, half = [0.05, 0.05, 0.1, 0.1, 0.3, 0.4], [0.05, 0.45, 0.1, 0.1, 0.15, 0.15]
    found = Compatibility(k=2)(view(table(own, own), table(disjoint, half)), teacher="teacher")
    torch.testing.assert_close(found, torch.tensor([0.0, 0.45 / 0.6], dtype=torch.float64))


def test_a_smaller_vocabulary_is_taken_whole():
    rows = random_view(5)
    whole, more = (UnionDivergence(k=k)(rows, teacher="teacher") for k in (VOCAB, 100))
    torch.testing.assert_close(more, whole, rtol=0.0, atol=0.0)


def test_two_settings_of_one_statistic_have_two_names():
    assert DivergenceShare(k=2).name != DivergenceShare().name
    assert UnionDivergence(k=2).name != UnionDivergence(k=3).name != Compatibility(k=3).name
