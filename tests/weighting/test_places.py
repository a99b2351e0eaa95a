"""Where a token stands: shares of the disagreement, ramps, and segments."""

import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.types import Author
from tutelage.weighting import Drift, EarlyAgreement, PositionRamp
from tutelage.weighting.places import segments

STUDENT, NONE = Author.STUDENT, Author.NONE


def everybody(batch) -> torch.Tensor:
    return torch.ones(batch.num_rows, dtype=torch.bool)


def test_segments_end_with_the_response_with_a_gap_and_with_a_turn():
    authors = [STUDENT, STUDENT, NONE, STUDENT]
    batch = steps.step([0, 1, 2, 3], [4, 5], student=steps.logits(5), authors=authors, turns=[[0, 0, 0, 0], [0, 1]]).batch
    segment, first = segments(batch, torch.arange(5))
    assert segment.tolist() == [0, 0, 1, 2, 3]
    assert first.tolist() == [0, 0, 2, 2]


def test_a_token_that_the_term_leaves_out_ends_a_segment():
    batch = steps.step([0, 1, 2, 3], student=steps.logits(4)).batch
    segment, first = segments(batch, torch.tensor([0, 1, 3]))
    assert (segment.tolist(), first.tolist()) == ([0, 0, 1], [0, 0])


def test_drift_says_nothing_about_tokens_that_the_term_does_not_act_on():
    batch = steps.step([0, 1, 2, 3], student=steps.logits(4)).batch
    own, theirs = torch.zeros(4), -torch.tensor([1.0, torch.nan, 2.0, 4.0])
    mask = torch.tensor([True, False, True, True])
    measured = {"student_log_prob": own, "teacher_log_prob": theirs}
    found = Drift()(batch, measured, mask, step=0, gather=lambda local: local)
    assert found.tolist() == pytest.approx([1.0, 1.0, 1.0 / 3.0, 1.0 / 3.0], abs=1e-6)


def test_no_rows_have_no_drift():
    batch = steps.step([0, 1], student=steps.logits(2)).batch
    measured = dict.fromkeys(("student_log_prob", "teacher_log_prob"), torch.zeros(2))
    assert Drift()(batch, measured, ~everybody(batch), step=0, gather=lambda local: local).tolist() == [1.0, 1.0]


def test_what_a_teacher_could_not_say_does_not_spoil_the_others_weights():
    batch = steps.step([0, 1], [2, 3], student=steps.logits(4)).batch
    theirs = batch.behaviour_log_probs - torch.tensor([torch.nan, torch.nan, 1.0, 3.0], dtype=torch.float64)
    mask = torch.tensor([False, False, True, True])
    found = EarlyAgreement(boost=1.0)(batch, {"teacher_log_prob": theirs}, mask, step=0, gather=lambda local: local)
    assert found[2:].tolist() == pytest.approx([2.0, 1.75])


def test_one_token_alone_stands_in_the_middle():
    batch = steps.step([0], [1, 2], student=steps.logits(3)).batch
    found = PositionRamp(floor=0.0, centre=0.5, width=1.0)(batch, {}, everybody(batch), step=0, gather=lambda local: local)
    assert found[0] == pytest.approx(0.5)
    assert (found[1] + found[2]) == pytest.approx(1.0)  # the ramp is symmetric about its centre


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyAgreement(boost=-1.0),
        lambda: EarlyAgreement(epsilon=0.0),
        lambda: PositionRamp(floor=1.5),
        lambda: PositionRamp(width=0.0),
        lambda: Drift(bound=0.9),
        lambda: Drift(epsilon=0.0),
    ],
)
def test_settings_that_mean_nothing_are_refused(make):
    with pytest.raises(ConfigError, match="needs"):
        make()
