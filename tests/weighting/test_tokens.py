"""Token weights against their probabilities and their definitions."""

from dataclasses import replace

import pytest
import torch

import dense
from tutelage.errors import ConfigError
from tutelage.math.divergences import total_variation
from tutelage.types import Author, StepBatch
from tutelage.weighting import EntropyAbove, RandomWeight, Rows, TeacherRows, TrustMask


def rows(num: int = 400, vocab: int = 6, seed: int = 0) -> Rows:
    """Rows of one prefix each, with tokens drawn from the student."""
    problem = dense.problem(vocab=vocab, lengths=(num,), seed=seed)
    student, teacher = dense.tables(problem)
    sampled = teacher.gather(-1, problem.batch.token.unsqueeze(-1)).squeeze(-1)
    teachers = {"teacher": TeacherRows(log_probs=teacher, sampled=sampled)}
    return Rows(student=student.detach(), teachers=teachers, batch=problem.batch)


def own(batch: StepBatch) -> torch.Tensor:
    """The rows that a term on the student's tokens acts on."""
    return batch.rows_by([Author.STUDENT])


def test_a_trust_mask_and_its_complement_partition_the_tokens():
    view = rows()
    inside, outside = TrustMask()(view, teacher="teacher"), TrustMask(inside=False)(view, teacher="teacher")
    assert set(inside.tolist()) == {0.0, 1.0}
    torch.testing.assert_close(inside + outside, torch.ones(400, dtype=torch.float64))


def test_forced_trust_keeps_everything_and_leaves_no_outlier():
    view = rows()
    assert TrustMask(forced=True)(view, teacher="teacher").tolist() == [1.0] * 400
    assert TrustMask(forced=True, inside=False)(view, teacher="teacher").tolist() == [0.0] * 400


@pytest.mark.parametrize("weight", [TrustMask(), TrustMask(inside=False), TrustMask(forced=True)])
def test_on_either_side_of_its_threshold_a_weight_that_draws_is_one_constant(weight):
    view = rows()
    assert isinstance(weight, RandomWeight)
    threshold = weight.threshold(view, teacher="teacher")
    assert threshold.min() >= 0.0
    assert threshold.max() <= 1.0
    for inside, share in ((True, 0.0), (True, 0.999), (False, 0.0), (False, 0.999)):
        noise = threshold * share if inside else threshold + (1.0 - threshold) * share
        drawn = replace(view, batch=replace(view.batch, noise=noise))
        possible = noise < threshold if inside else threshold < 1.0
        assert set(weight(drawn, teacher="teacher")[possible].tolist()) <= {float(inside == weight.inside)}
    assert not isinstance(EntropyAbove(), RandomWeight)


def test_tokens_are_kept_as_often_as_speculative_decoding_would_accept_them():
    view = rows(num=20_000, vocab=5)
    kept = TrustMask()(view, teacher="teacher").mean()
    expected = 1.0 - total_variation(view.student, view.teachers["teacher"].full()).mean()
    assert abs(float(kept - expected)) < 4.0 * 0.5 / 20_000**0.5


def test_a_teacher_equal_to_the_student_is_always_trusted():
    view = rows()
    same = Rows(student=view.student, teachers={"teacher": TeacherRows(sampled=view.sampled)}, batch=view.batch)
    assert TrustMask()(same, teacher="teacher").tolist() == [1.0] * 400


def test_entropy_above_keeps_the_upper_share_of_the_students_tokens():
    values = torch.randperm(1_000, generator=torch.Generator().manual_seed(0)).double()
    batch = dense.problem(lengths=(1_000,)).batch
    weight = EntropyAbove(quantile=0.8)(batch, {"student_entropy_nats": values}, own(batch), step=0, gather=lambda local: local)
    assert weight.sum() == 200.0
    torch.testing.assert_close(weight, (values >= 800.0).double())
    everything = EntropyAbove(quantile=0.0)(
        batch, {"student_entropy_nats": values}, own(batch), step=0, gather=lambda local: local
    )
    assert everything.sum() == 1_000.0


def test_entropy_above_takes_its_quantile_over_the_students_tokens_only():
    batch = dense.problem(lengths=(8,), authors=(Author.STUDENT, Author.TEACHER)).batch
    values = torch.tensor([1.0, 100.0, 2.0, 100.0, 3.0, 0.0, 4.0, 0.0])
    weight = EntropyAbove(quantile=0.5)(batch, {"student_entropy_nats": values}, own(batch), step=0, gather=lambda local: local)
    assert weight.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]


def test_entropy_above_without_any_token_of_the_student_weighs_nothing_out_and_still_gathers():
    batch = dense.problem(lengths=(3,), authors=(Author.DATASET,)).batch
    calls: list[int] = []
    values = torch.tensor([1.0, 2.0, 3.0])
    weight = EntropyAbove()(
        batch, {"student_entropy_nats": values}, own(batch), step=0, gather=lambda local: calls.append(len(local)) or local
    )
    assert weight.tolist() == [1.0, 1.0, 1.0]
    assert calls == [0]


def test_entropy_above_compares_with_the_tokens_of_other_processes():
    batch = dense.problem(lengths=(4,)).batch
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    elsewhere = torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0])
    weight = EntropyAbove(quantile=0.5)(
        batch, {"student_entropy_nats": values}, own(batch), step=0, gather=lambda local: torch.cat([local, elsewhere])
    )
    assert weight.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_rows_share_what_terms_and_statistics_read_and_take_keeps_them_aligned():
    view = rows(num=5)
    assert view.probabilities is view.probabilities
    assert view.log_ratios("teacher") is view.log_ratios("teacher")
    torch.testing.assert_close(view.log_ratios("teacher"), view.teachers["teacher"].full() - view.student)
    chosen = torch.tensor([4, 1])
    part = view.take(chosen)
    torch.testing.assert_close(part.log_ratio("teacher"), view.log_ratio("teacher")[chosen])
    torch.testing.assert_close(part.log_ratios("teacher"), view.log_ratios("teacher")[chosen])
    assert part.batch.token.tolist() == view.batch.token[chosen].tolist()


def test_a_teacher_without_its_whole_distribution_says_so():
    with pytest.raises(ConfigError, match="whole distribution"):
        TeacherRows(sampled=torch.zeros(2)).full()
    part = TeacherRows(sampled=torch.zeros(2), top_ids=torch.tensor([[1], [2]]), top_log_probs=torch.zeros(2, 1))
    taken = part.take(torch.tensor([1]))
    assert taken.top_ids is not None
    assert taken.top_ids.tolist() == [[2]]


def test_noise_belongs_to_the_token_and_not_to_the_micro_batch():
    view = rows(num=8)
    batch: StepBatch = view.batch
    again = StepBatch.of(batch.rollouts, seed=0)
    torch.testing.assert_close(batch.noise, again.noise, rtol=0.0, atol=0.0)
    chosen = torch.tensor([6, 2])
    whole, part = TrustMask()(view, teacher="teacher"), TrustMask()(view.take(chosen), teacher="teacher")
    torch.testing.assert_close(part, whole[chosen], rtol=0.0, atol=0.0)
