from dataclasses import replace

import pytest
import torch

import steps
from tutelage.recipes import Recipe, sdpo
from tutelage.run.recipe_checks import check_recipe
from tutelage.teachers.context_parts import AttemptFeedback, FirstAvailable, PeerSolution
from tutelage.teachers.parts import Average, Frozen, Live, SelfTeacher
from tutelage.verifiers import ExactMatch

VOCAB = 6
RESPONSES = [[0, 1, 2], [3, 4], [5, 0]]


def made(**knobs: object) -> Recipe:
    """With all entries."""
    return sdpo(**({"k": VOCAB} | knobs))


def three_responses(*, untaught: tuple[int, ...] = (), **more):
    given = steps.step(*RESPONSES, student=steps.logits(7), **({"teacher": steps.logits(7, seed=1)} | more))
    taught = ~torch.isin(given.batch.rollout, torch.tensor(untaught, dtype=torch.long))
    names = ("teacher", "current", "blend")
    return replace(given, batch=replace(given.batch, taught=dict.fromkeys(names, taught)))


def divergence_gradient(student: torch.Tensor, teacher: torch.Tensor, beta: float) -> torch.Tensor:
    """Of beta KL(q || m) + (1 - beta) KL(p || m), m = beta q + (1 - beta) p, row by row, with respect to the logits of p."""
    student = student.clone().requires_grad_()
    p, q = student.softmax(-1), teacher.softmax(-1)
    m = beta * q + (1.0 - beta) * p
    value = (beta * q * (q / m).log() + (1.0 - beta) * p * (p / m).log()).sum()
    return torch.autograd.grad(value, student)[0]


def test_without_peers_and_feedback_loss_and_gradient_are_exactly_zero():
    given = three_responses(untaught=(0, 1, 2))
    assert steps.loss(made(), given) == 0.0
    assert steps.gradient(made(), given).abs().max() == 0.0


@pytest.mark.parametrize("beta", [0.3, 0.5])
def test_the_mean_is_over_the_tokens_of_responses_that_could_be_taught(beta):
    given = three_responses(untaught=(1,))
    student, teacher = given.hidden.detach(), given.teachers["teacher"].hidden
    expected = divergence_gradient(student, teacher, beta) / 5
    expected[given.batch.rollout == 1] = 0.0
    torch.testing.assert_close(steps.gradient(made(beta=beta), given), expected)


def test_the_ends_of_beta_are_both_kls():
    given = three_responses()
    student, teacher = given.hidden.detach(), given.teachers["teacher"].hidden
    torch.testing.assert_close(steps.gradient(made(beta=1.0), given), steps.token_kl_gradient(student, teacher) / 7)
    forward = (student.softmax(-1) - teacher.softmax(-1)) / 7
    torch.testing.assert_close(steps.gradient(made(beta=0.0), given), forward)


def test_tokens_that_the_sampler_found_too_unlikely_count_at_most_twice():
    fresh = three_responses()
    own = steps.log_prob(fresh, fresh.hidden)
    stale = three_responses(behaviour=own - torch.tensor([0.0, 0.5, 3.0, -0.5, 0.2, -3.0, 0.0], dtype=torch.float64))
    weight = torch.tensor([0.0, 0.5, 3.0, -0.5, 0.2, -3.0, 0.0], dtype=torch.float64).exp().clamp(max=2.0)
    torch.testing.assert_close(steps.gradient(made(), stale), steps.by_row(weight, steps.gradient(made(), fresh)))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_trust_region_teacher_lies_between_the_first_student_and_the_live_one(share):
    first, current = steps.logits(7, seed=2), steps.logits(7, seed=3)
    both = three_responses(teacher=first, current=current)
    blend = (1.0 - share) * first.log_softmax(-1) + share * current.log_softmax(-1)
    found = steps.gradient(made(teacher_update="trust_region", student_share=share), both)
    torch.testing.assert_close(found, steps.gradient(made(), three_responses(teacher=blend)))


def test_the_teacher_reads_a_right_peer_and_else_what_was_said_of_the_response():
    context = FirstAvailable(contexts=(PeerSolution(), AttemptFeedback()))
    for update, part in (("average", Average(rate=0.05)), ("live", Live()), ("trust_region", Frozen())):
        assert sdpo(teacher_update=update).teacher == SelfTeacher(update=part, context=context)
    assert sdpo().verdicts == {"correct"}, "words of the verifier help, but peers alone will do"
    check_recipe(sdpo(), verifier=ExactMatch())
