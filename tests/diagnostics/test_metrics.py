"""Means over a step and descriptions of responses, against values counted by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.diagnostics import repetition_fraction, rollout_metrics, signal_metrics
from tutelage.types import Author, Example, Rollout, StepBatch, Verdict


def rollout(ids: list[int], *, finish="stop", author=Author.STUDENT, behaviour=-1.0) -> Rollout:
    log_probs = torch.full((len(ids),), behaviour if author == Author.STUDENT else math.nan)
    return Rollout(
        example=Example(id="x", prompt="p"),
        group=0,
        prompt_ids=torch.tensor([0]),
        response_ids=torch.tensor(ids),
        authors=torch.full((len(ids),), int(author)),
        behaviour_log_probs=log_probs,
        finish=finish,
        text="",
    )


def test_repetition_counts_the_grams_that_came_before():
    assert repetition_fraction([1, 2, 1, 2, 1, 2], n=2) == pytest.approx(3 / 5)  # 12 21 12 21 12: three came before
    assert repetition_fraction([1, 2, 3, 4, 5], n=2) == 0.0
    assert repetition_fraction([7] * 10, n=4) == pytest.approx(6 / 7)


@given(st.lists(st.integers(0, 3), max_size=3))
def test_a_response_shorter_than_a_gram_repeats_nothing(ids):
    assert repetition_fraction(ids, n=4) == 0.0


def test_rollouts_are_described_by_length_cuts_and_what_a_verifier_said():
    found = rollout_metrics(
        [rollout([1] * 2), rollout([2] * 4, finish="length"), rollout([3] * 6)],
        [Verdict(reward=1.0, correct=True), Verdict(reward=0.0, correct=False), Verdict()],
    )
    assert found["rollout/length_tokens"] == pytest.approx(4.0)
    assert found["rollout/length_p95_tokens"] == 6.0
    assert found["rollout/truncated_fraction"] == pytest.approx(1 / 3)
    assert found["rollout/accuracy_fraction"] == pytest.approx(0.5)
    assert found["rollout/reward"] == pytest.approx(0.5)


def test_without_a_verifier_there_is_no_accuracy_and_no_reward():
    assert not {"rollout/accuracy_fraction", "rollout/reward"} & rollout_metrics([rollout([1])], [Verdict()]).keys()


def test_the_sampler_gap_is_measured_on_the_students_own_tokens_only():
    batch = StepBatch.of([rollout([1, 2], behaviour=-1.0), rollout([3], author=Author.DATASET)])
    statistics = {
        "student_log_prob": torch.tensor([-1.5, -0.5, -9.0]),
        "teacher_log_prob": torch.tensor([-1.0, -1.0, -8.0]),
        "reverse_kl_nats": torch.tensor([0.5, 1.5, math.nan]),
    }
    found = signal_metrics(batch, statistics)
    assert found["signal/sampler_gap_nats"] == pytest.approx(0.5)
    assert found["signal/log_ratio_nats"] == pytest.approx((0.5 - 0.5 + 1.0) / 3)
    assert found["signal/reverse_kl_nats"] == pytest.approx(1.0)


def test_a_statistic_that_no_token_has_is_left_out():
    batch = StepBatch.of([rollout([3], author=Author.DATASET)])
    statistics = {"student_log_prob": torch.tensor([-1.0]), "teacher_log_prob": torch.tensor([math.nan])}
    assert signal_metrics(batch, statistics) == {}
