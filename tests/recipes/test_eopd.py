from math import inf

import pytest
import torch

import steps
from enumeration import every_token, mean_over, pair, reverse_kl_gradient
from tutelage.lab.exact import Size, make, moments, token_level
from tutelage.recipes import Recipe, eopd, opd

VOCAB = 6


def made(**knobs: object) -> Recipe:
    """With fewer entries than there are tokens."""
    return eopd(**({"k": 3} | knobs))


def one_response(length: int = 5):
    student, teacher = steps.logits(length), steps.logits(length, seed=1)
    given = steps.step([time % VOCAB for time in range(length)], student=student, teacher=teacher)
    return given, student, teacher


def test_with_a_threshold_that_nobody_reaches_it_has_the_mean_gradient_of_opd():
    student, teacher = pair()
    found = mean_over(student.softmax(-1), every_token(made(nats=inf), student, teacher))
    torch.testing.assert_close(found, reverse_kl_gradient(student, teacher))
    world = make(Size(vocab=3, length=3))
    torch.testing.assert_close(moments(world, made(nats=inf, n=1)).gradient, token_level(world).gradient)


def test_below_every_threshold_the_forward_kl_on_the_teachers_likeliest_entries_joins_everywhere():
    given, student, teacher = one_response()
    more = steps.gradient(made(nats=-inf), given) - steps.gradient(made(nats=inf), given)
    kept = teacher.argsort(dim=-1, descending=True)[:, :3]
    own, theirs = (side.gather(-1, kept).softmax(-1) for side in (student, teacher))
    expected = torch.zeros_like(student).scatter(-1, kept, (own - theirs) / 5)  # of the forward KL between conditioned sides
    torch.testing.assert_close(more, expected)


def test_the_forward_kl_acts_only_where_the_teacher_is_uncertain_and_counts_all_tokens():
    given, _, teacher = one_response(8)
    entropy = torch.distributions.Categorical(logits=teacher).entropy()
    nats = float(entropy.sort().values[4]) - 1e-9
    everywhere, chosen, nowhere = (steps.gradient(made(nats=bound), given) for bound in (-inf, nats, inf))
    uncertain = entropy > nats
    assert 0 < uncertain.sum() < 8
    torch.testing.assert_close(chosen, torch.where(uncertain.unsqueeze(-1), everywhere, nowhere))


def test_scale_is_a_factor_on_the_forward_kl():
    given, *_ = one_response()
    none, once, twice = (steps.gradient(made(nats=-inf, scale=scale), given) for scale in (0.0, 1.0, 2.0))
    torch.testing.assert_close(twice - none, 2.0 * (once - none))


@pytest.mark.parametrize(("rest", "still"), [("renormalise", True), ("tail", True), ("truncate", False)])
def test_equal_sides_leave_the_student_alone_unless_the_sum_just_stops(rest, still):
    _, student, _ = one_response()
    given = steps.step([0, 1, 2, 3, 4], student=student, teacher=student)
    found = steps.gradient(made(nats=-inf, rest=rest), given)
    assert bool(found.abs().max() < 1e-14) is still


def test_a_ratio_beyond_the_clip_gives_the_policy_gradient_nothing_to_gain():
    given, student, teacher = one_response()
    fresh = steps.log_prob(given, student)
    worth = steps.log_prob(given, teacher) - fresh
    stale = steps.step([0, 1, 2, 3, 4], student=student, teacher=teacher, behaviour=fresh - 0.5 * worth.sign())
    beyond = steps.gradient(made(nats=inf), stale)  # each ratio has moved by exp(0.5) the way its worth asks for
    moved = (steps.log_prob(given, teacher) - fresh + 0.5 * worth.sign()).sign() == worth.sign()
    assert moved.any()
    assert beyond[moved].abs().max() == 0.0
    assert steps.gradient(opd(), stale)[moved].abs().max() > 0.0
