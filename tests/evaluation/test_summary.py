from dataclasses import dataclass

import pytest
import torch

from tutelage.evaluation.metrics import bootstrap_interval, wilson_interval
from tutelage.evaluation.summary import accuracy, description, mean_over_prompts, token_mean
from tutelage.types import StepBatch, Verdict


@dataclass
class Measured:
    batch: StepBatch
    statistics: dict[str, torch.Tensor]


def said(*marks):
    return [Verdict(correct=mark) for mark in marks]


def test_greedy_accuracy_is_a_share_of_the_judged_prompts_with_wilsons_interval(rollout):
    found = accuracy([rollout(group, [1]) for group in range(5)], said(True, False, None, True, True), k=None, seed=0)
    assert found.metrics == {"eval/greedy_accuracy_fraction": 0.75}
    assert found.intervals == {"eval/greedy_accuracy_fraction": wilson_interval(3, 4)}


def test_avg_and_pass_at_k_are_means_over_prompts(rollout):
    rollouts = [rollout(group, [1]) for group in (0, 0, 0, 1, 1, 1)]
    found = accuracy(rollouts, said(True, False, False, True, True, False), k=2, seed=0)
    # of the three pairs of responses, two hold a right one for the first prompt, all three for the second
    assert found.metrics["eval/avg_at_k_fraction"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert found.metrics["eval/pass_at_k_fraction"] == pytest.approx((2 / 3 + 1) / 2)
    assert found.intervals["eval/avg_at_k_fraction"] == bootstrap_interval([1 / 3, 2 / 3], seed=0)


def test_a_prompt_with_fewer_judged_responses_than_k_has_no_pass_at_k(rollout):
    found = accuracy([rollout(group, [1]) for group in (0, 0, 1, 1)], said(True, False, True, None), k=2, seed=0)
    assert found.metrics["eval/pass_at_k_fraction"] == 1.0
    assert found.metrics["eval/avg_at_k_fraction"] == 0.75
    assert found.intervals["eval/pass_at_k_fraction"] == wilson_interval(1, 1)


def test_where_nothing_is_judged_nothing_is_said(rollout):
    found = accuracy([rollout(0, [1]), rollout(1, [1])], said(None, None), k=None, seed=0)
    assert found.metrics == found.intervals == {}


def test_all_right_is_not_taken_for_certain(rollout):
    found = accuracy([rollout(group, [1]) for group in (0, 0, 1, 1)], said(True, True, True, True), k=1, seed=0)
    assert found.metrics["eval/avg_at_k_fraction"] == 1.0
    assert found.intervals["eval/avg_at_k_fraction"] == wilson_interval(2, 2)


def test_the_description_counts_each_prompt_once(rollout):
    loop = [7, 8, 9, 7, 8, 9, 7, 8, 9]  # six 4-grams, the last three of which stood before
    rollouts = [rollout(0, loop, finish="length"), rollout(0, [1, 2, 3]), rollout(1, [5])]
    metrics = description(rollouts, seed=0).metrics
    assert metrics["eval/mean_length_tokens"] == pytest.approx(((9 + 3) / 2 + 1) / 2)
    assert metrics["eval/truncated_fraction"] == pytest.approx((1 / 2 + 0) / 2)
    assert metrics["eval/repetition_fraction"] == pytest.approx((3 / 6 / 2 + 0) / 2)


def test_a_token_mean_counts_each_known_token_once_and_resamples_prompts(rollout):
    rollouts = [rollout(0, [1, 2]), rollout(0, [3]), rollout(1, [4, 5, 6])]
    values = torch.tensor([1.0, 2.0, 6.0, 0.5, torch.nan, 1.5])
    measured = Measured(batch=StepBatch.of(rollouts), statistics={"reverse_kl_nats": values})
    found = token_mean("eval/reverse_kl_nats", measured, "reverse_kl_nats", seed=2)
    assert found.metrics["eval/reverse_kl_nats"] == pytest.approx((1 + 2 + 6 + 0.5 + 1.5) / 5)
    assert found.intervals["eval/reverse_kl_nats"] == bootstrap_interval([3.0, 1.0], weights=[3.0, 2.0], seed=2)


def test_a_token_mean_follows_the_rows_that_were_measured(rollout):
    batch = StepBatch.of([rollout(0, [1, 2]), rollout(1, [3])]).select(torch.tensor([2]))
    measured = Measured(batch=batch, statistics={"student_entropy_nats": torch.tensor([0.25])})
    assert token_mean("name", measured, "student_entropy_nats", seed=0).metrics == {"name": 0.25}


def test_a_statistic_that_no_token_has_is_left_out(rollout):
    measured = Measured(batch=StepBatch.of([rollout(0, [1])]), statistics={"forward_kl_nats": torch.tensor([torch.nan])})
    assert token_mean("name", measured, "forward_kl_nats", seed=0).metrics == {}


def test_zeros_and_ones_with_weights_are_resampled():
    found = mean_over_prompts("name", [0.0, 1.0], weights=[1.0, 3.0], seed=0)
    assert found.metrics == {"name": 0.75}
    assert found.intervals == {"name": bootstrap_interval([0.0, 1.0], weights=[1.0, 3.0], seed=0)}
