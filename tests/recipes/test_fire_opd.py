import pytest
import torch

import steps
from enumeration import mean_over, pair, reverse_kl_gradient
from tutelage.recipes import fire_opd

VOCAB = 6
RESPONSES = [[0, 1, 2], [3, 4], [5, 0, 1, 2], [3], [4, 5]]


def five_responses(**more):
    rows = sum(map(len, RESPONSES))
    return steps.step(*RESPONSES, student=steps.logits(rows), teacher=steps.logits(rows, seed=1), **more)


def entropies(given):
    return [
        torch.distributions.Categorical(logits=table.detach()).entropy()
        for table in (given.teachers["teacher"].hidden, given.hidden)
    ]


def kept_rows(given, num_dropped: int) -> torch.Tensor:
    """Rows of the responses that are left when the least likely ones under the teacher are gone."""
    theirs = steps.log_prob(given, given.teachers["teacher"].hidden)
    means = torch.stack([theirs[given.batch.rollout == index].mean() for index in range(5)])
    return torch.isin(given.batch.rollout, means.argsort()[num_dropped:])


def test_without_filter_and_weights_it_has_the_mean_gradient_of_opd():
    student, teacher = pair()
    plain = fire_opd(dropped=0.0, teacher_weight=0.0, student_weight=0.0)
    vocab = len(student)
    tables = (side.expand(vocab, vocab) for side in (student, teacher))
    given = steps.step(*[[token] for token in range(vocab)], **dict(zip(("student", "teacher"), tables, strict=True)))
    found = mean_over(student.softmax(-1), vocab * steps.gradient(plain, given))
    torch.testing.assert_close(found, reverse_kl_gradient(student, teacher))


@pytest.mark.parametrize(("dropped", "num_dropped"), [(0.0, 0), (0.2, 1), (0.4, 2), (0.8, 4)])
def test_the_share_of_responses_that_the_teacher_finds_least_likely_is_dropped(dropped, num_dropped):
    given = five_responses()
    moved = steps.gradient(fire_opd(dropped=dropped), given).abs().sum(-1) > 0.0
    assert moved.tolist() == kept_rows(given, num_dropped).tolist()


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.0, 2.0), (0.5, 0.0)])
def test_among_the_kept_tokens_weights_follow_both_entropies_and_average_to_one(a, b):
    given = five_responses()
    kept = kept_rows(given, 1)
    theirs, own = entropies(given)
    raw = (1.0 + a * (1.0 - theirs / theirs[kept].max())) * (1.0 + b * own / own[kept].max())
    weight = torch.where(kept, raw / raw[kept].mean(), 0.0)
    worth = steps.log_prob(given, given.teachers["teacher"].hidden) - steps.log_prob(given, given.hidden)
    expected = -steps.by_row(weight * worth, steps.score(given)) / int(kept.sum())
    torch.testing.assert_close(steps.gradient(fire_opd(teacher_weight=a, student_weight=b), given), expected)
    assert weight[kept].mean() == pytest.approx(1.0)
    assert raw[kept].min() >= 1.0
    assert raw[kept].max() <= (1.0 + a) * (1.0 + b)


def test_a_ratio_outside_the_clip_gives_no_gradient_where_it_went_the_right_way():
    fresh = five_responses()
    own, theirs = (steps.log_prob(fresh, table) for table in (fresh.hidden, fresh.teachers["teacher"].hidden))
    behaviour = own - 0.5 * (theirs - own).sign()  # the student has moved by exp(0.5) to where the worth points
    right = (theirs - behaviour).sign() == (theirs - own).sign()
    found = steps.gradient(fire_opd(dropped=0.0), five_responses(behaviour=behaviour))
    assert right.any()
    assert found[right].abs().max() == 0.0
