import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.recipes import opd, ta_opd

VOCAB = 6


def table(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


PEAKED = [0.44, 0.24, 0.14, 0.1, 0.05, 0.03]
SWAPPED = [0.24, 0.44, 0.14, 0.1, 0.05, 0.03]
"""The same two likeliest entries, and a disagreement about them."""
ELSEWHERE = [0.03, 0.05, 0.1, 0.14, 0.24, 0.44]
"""Two other likeliest entries."""


def agreeing_disjoint_and_teachable():
    """One token of each kind."""
    return steps.step([0, 1, 2], student=table(PEAKED, PEAKED, PEAKED), teacher=table(PEAKED, ELSEWHERE, SWAPPED))


def test_neither_agreement_nor_disjoint_likeliest_entries_are_teachable():
    given = agreeing_disjoint_and_teachable()
    found = steps.gradient(ta_opd(keep=1.0 / 3.0, k=2), given)
    alone = steps.gradient(opd(), given) * 3
    assert alone.abs().sum(-1)[1] > 0.0, "opd itself would have moved the disjoint token"
    torch.testing.assert_close(found, torch.stack([0.0 * alone[0], 0.0 * alone[1], alone[2]]))


def test_with_everything_kept_it_is_opd():
    given = steps.step([0, 1, 2, 3, 4], student=steps.logits(5), teacher=steps.logits(5, seed=1))
    torch.testing.assert_close(steps.gradient(ta_opd(keep=1.0, k=3), given), steps.gradient(opd(), given))


def score_by_hand(student: torch.Tensor, teacher: torch.Tensor, k: int, low: float, high: float) -> torch.Tensor:
    """The score of each row by loops over sets."""
    divergence, shared = [], []
    for own, theirs in zip(student.softmax(-1), teacher.softmax(-1), strict=True):
        top_own, top_theirs = (set(side.topk(k).indices.tolist()) for side in (own, theirs))
        union, both = sorted(top_own | top_theirs), sorted(top_own & top_theirs)
        p, q = own[union] / own[union].sum(), theirs[union] / theirs[union].sum()
        divergence.append(float((q * (q / p).log()).sum()))
        shared.append(float(theirs[both].sum() / theirs[sorted(top_theirs)].sum()))
    spread = []
    for values in (torch.tensor(divergence), torch.tensor(shared)):
        bottom, top = (float(values.sort().values[round(q * (len(values) - 1))]) for q in (low, high))
        spread.append(((values - bottom) / (top - bottom)).clamp(0.0, 1.0))
    return spread[0] * spread[1]


@pytest.mark.parametrize("seed", range(3))
def test_the_tokens_with_the_largest_product_of_both_factors_have_the_whole_mean(seed):
    student, teacher = steps.logits(40, seed=seed), steps.logits(40, seed=seed + 100)
    given = steps.step([row % VOCAB for row in range(40)], student=student, teacher=teacher)
    kept = score_by_hand(student, teacher, 3, 0.1, 0.9).argsort(descending=True)[:4]
    expected = torch.zeros(40, VOCAB, dtype=torch.float64)
    expected[kept] = steps.gradient(opd(), given)[kept] * 40 / 4
    torch.testing.assert_close(steps.gradient(ta_opd(keep=0.1, k=3, low=0.1, high=0.9), given), expected)


@pytest.mark.parametrize("knobs", [{"keep": 0.0}, {"low": 0.9, "high": 0.1}, {"k": 0}])
def test_choices_that_mean_nothing_are_refused(knobs):
    with pytest.raises(ConfigError, match="Teachable needs"):
        ta_opd(**knobs)
