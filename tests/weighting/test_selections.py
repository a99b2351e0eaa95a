"""Tokens that are in or out: who is named, who is drawn, who is teachable."""

from dataclasses import replace

import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.objectives import ReverseKL, Term, plan
from tutelage.weighting import EntropyAbove, ImportanceSampled, Resolvable, SkipFirst, Teachable

VOCAB = 6


def batch(*responses: list[int]):
    return steps.step(*responses, student=steps.logits(sum(map(len, responses)))).batch


def weigh(part, given, measured, mask=None) -> list[float]:
    everybody = torch.ones(given.num_rows, dtype=torch.bool)
    return part(given, measured, everybody if mask is None else mask, step=0, gather=lambda local: local).tolist()


def test_each_listed_token_is_skipped_once_in_each_response():
    given = batch([2, 4, 2, 4], [4, 1], [1, 1])
    assert weigh(SkipFirst(tokens=(), ids=(2, 4)), given, {}) == [0, 0, 1, 1, 0, 1, 1, 1]


def test_an_occurrence_that_the_term_does_not_act_on_is_not_the_first():
    given = batch([2, 4, 2])
    mask = torch.tensor([False, True, True])
    assert weigh(SkipFirst(tokens=(), ids=(2,)), given, {}, mask)[1:] == [1, 0]


def test_a_look_up_finds_what_the_vocabulary_has_and_leaves_the_rest():
    term = Term(name="a", signal=ReverseKL(), weights=(SkipFirst(tokens=("<", "absent", "zero")), EntropyAbove()))
    found = term.resolved({"<": 3, "zero": 0}.get)
    assert found.weights == (SkipFirst(tokens=("<", "absent", "zero"), ids=(3, 0)), EntropyAbove())
    assert not isinstance(EntropyAbove(), Resolvable)


def test_a_token_of_no_score_is_drawn_only_where_nothing_else_is_left():
    given = batch([0, 1, 2, 3])
    given = replace(given, noise=torch.tensor([0.9, 0.001, 0.99, 0.002]))
    measured = {"student_entropy_share": torch.tensor([0.0, 0.5, 0.0, 0.5])}
    assert weigh(ImportanceSampled(ratio=0.5), given, measured) == [0, 1, 0, 1]
    assert sum(weigh(ImportanceSampled(ratio=0.75), given, measured)) == 3


@pytest.mark.parametrize("noise", [0.0, 1.0 - 2**-24])
def test_the_ends_of_the_noise_are_no_accident(noise):
    given = replace(batch([0, 1]), noise=torch.tensor([noise, 0.5]))
    found = weigh(ImportanceSampled(ratio=0.5), given, {"student_entropy_share": torch.ones(2)})
    assert found == ([1, 0] if noise > 0.5 else [0, 1])


def test_only_a_divergence_that_counts_is_measured():
    assert [statistic.name for statistic in ImportanceSampled().measures] == ["student_entropy_share"]
    both = ["student_entropy_share", "jensen_shannon_share_4"]
    assert [statistic.name for statistic in ImportanceSampled(divergence_power=1.0, k=4).measures] == both
    assert [statistic.name for statistic in ImportanceSampled(score="either", k=4).measures] == both


def test_quantiles_that_coincide_bound_the_values_instead_of_dividing_by_nothing():
    given = batch([0, 1, 2, 3])
    part = Teachable(keep=0.25, k=2)
    divergence, shared = (statistic.name for statistic in part.measures)
    measured = {divergence: torch.tensor([0.1, 0.4, 0.3, 0.2]), shared: torch.full((4,), 0.5)}
    assert weigh(part, given, measured) == [0, 1, 0, 0]


def test_of_ties_at_the_threshold_all_are_kept():
    given = batch([0, 1, 2, 3])
    part = Teachable(keep=0.25, k=2)
    measured = {statistic.name: torch.zeros(4) for statistic in part.measures}
    assert weigh(part, given, measured) == [1, 1, 1, 1]


def test_a_mean_over_the_tokens_that_are_left_does_not_count_the_others():
    given = steps.step([2, 0, 1], [1, 2], student=steps.logits(5), teacher=steps.logits(5, seed=1))
    weights = (SkipFirst(tokens=(), ids=(2,)),)
    plans = {
        counts: plan([Term(name="a", signal=ReverseKL(), weights=weights, counts=counts)], given.batch)
        for counts in ("acting", "selected")
    }
    of_acting, of_selected = ((plan.coefficients * plan.weights)[0].tolist() for plan in plans.values())
    assert of_acting == pytest.approx([0, 1 / 5, 1 / 5, 1 / 5, 0])
    assert of_selected == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0])


def test_an_unresolved_list_of_tokens_names_them():
    with pytest.raises(ConfigError, match="does not know the ids of <, >"):
        weigh(SkipFirst(tokens=("<", ">")), batch([0]), {})
