"""Self teachers: where they start, how they move, and that an adapter is never lost."""

import pytest
import torch
from torch import Tensor

from tutelage.errors import CheckpointError, ConfigError
from tutelage.models import LanguageModel
from tutelage.teachers.parts import Average, Frozen, Live, Periodic, SelfTeacher
from tutelage.teachers.weights import FixedWeights, own_weights

RANKS = pytest.mark.parametrize("rank", [0, 4])


def logits(model: LanguageModel) -> Tensor:
    with torch.no_grad():
        return model.model(torch.arange(40).unsqueeze(0)).logits


def nudge(student: LanguageModel, amount: float = 0.1) -> None:
    """An optimiser step's effect, without an optimiser."""
    with torch.no_grad():
        for parameter in student.trainable_parameters():
            parameter += amount * torch.randn_like(parameter)


@RANKS
@pytest.mark.parametrize("update", [Frozen(), Live(), Average(rate=0.3), Periodic(every=2)])
def test_every_self_teacher_starts_as_the_student_with_its_adapter(make_model, rank, update):
    student = make_model(rank=rank)
    teacher = own_weights(SelfTeacher(update=update), student)
    torch.testing.assert_close(logits(teacher.model), logits(student), rtol=0, atol=0)
    if rank:
        with student.model.disable_adapter():
            base = logits(student)
        assert (logits(teacher.model) - base).abs().max() > 0.1  # and not as the model below the adapter


@RANKS
def test_a_frozen_teacher_stays_while_the_student_moves(make_model, rank):
    student = make_model(rank=rank)
    teacher, before = own_weights(SelfTeacher(update=Frozen()), student), logits(student)
    nudge(student)
    teacher.update(student)
    torch.testing.assert_close(logits(teacher.model), before, rtol=0, atol=0)
    assert (logits(student) - before).abs().max() > 0.1


@RANKS
def test_a_live_teacher_is_the_student(make_model, rank):
    student = make_model(rank=rank)
    teacher = own_weights(SelfTeacher(update=Live()), student)
    nudge(student)
    teacher.update(student)
    assert teacher.model is student


@RANKS
def test_an_average_is_the_weighted_sum_of_the_students_it_saw(make_model, rank):
    rate, student = 0.25, make_model(rank=rank)
    teacher = own_weights(SelfTeacher(update=Average(rate=rate)), student)
    seen = [{name: value.clone() for name, value in student.trainable_state().items()}]
    for _ in range(3):
        nudge(student)
        teacher.update(student)
        seen.append({name: value.clone() for name, value in student.trainable_state().items()})
    shares = [(1 - rate) ** 3] + [rate * (1 - rate) ** (3 - age) for age in (1, 2, 3)]
    averaged = dict(teacher.model.model.named_parameters())
    for name in seen[0]:
        expected = sum(share * state[name].double() for share, state in zip(shares, seen, strict=True))
        torch.testing.assert_close(averaged[name].double(), expected, rtol=1e-5, atol=1e-6)


@RANKS
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_of_the_rate_are_frozen_and_live(make_model, rank, rate):
    student = make_model(rank=rank)
    teacher, before = own_weights(SelfTeacher(update=Average(rate=rate)), student), logits(student)
    nudge(student)
    teacher.update(student)
    torch.testing.assert_close(logits(teacher.model), logits(student) if rate else before, rtol=0, atol=0)


@pytest.mark.parametrize("update", [Frozen(), Average()])
def test_a_self_teacher_of_an_adapter_shares_the_weights_below_it_and_nothing_in_it_trains(make_model, update):
    student = make_model(rank=4)
    teacher = own_weights(SelfTeacher(update=update), student)
    theirs = dict(teacher.model.model.named_parameters())
    for name, parameter in student.model.named_parameters():
        assert (theirs[name].data_ptr() == parameter.data_ptr()) == (not parameter.requires_grad)
        assert not theirs[name].requires_grad


def test_small_steps_are_not_lost_in_half_precision(make_model):
    student = make_model()
    student.model.to(torch.bfloat16)
    teacher = own_weights(SelfTeacher(update=Average(rate=0.001)), student)
    start = {name: value.float().clone() for name, value in student.trainable_state().items()}
    with torch.no_grad():
        for parameter in student.trainable_parameters():
            parameter += 1.0
    target = {name: value.float() for name, value in student.trainable_state().items()}
    for _ in range(1000):
        teacher.update(student)
    left = (1 - 0.001) ** 1000
    for name, parameter in teacher.model.model.named_parameters():
        expected = target[name] + left * (start[name] - target[name])
        torch.testing.assert_close(parameter.float(), expected, rtol=0.01, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_average_goes_on_to_the_same_bits(make_model, dtype):
    part, student = SelfTeacher(update=Average(rate=0.1)), make_model()
    student.model.to(dtype)
    teacher, resumed = own_weights(part, student), own_weights(part, student)
    nudge(student)
    teacher.update(student)
    resumed.load_state_dict({name: value.clone() for name, value in teacher.state_dict().items()})
    torch.testing.assert_close(logits(resumed.model), logits(teacher.model), rtol=0, atol=0)
    nudge(student)
    for weights in (teacher, resumed):
        weights.update(student)
    torch.testing.assert_close(logits(resumed.model), logits(teacher.model), rtol=0, atol=0)


def test_a_saved_average_is_a_snapshot_that_loading_does_not_tie_to_the_teacher(make_model):
    student = make_model()
    teacher = own_weights(SelfTeacher(update=Average(rate=0.5)), student)
    state = {name: value.clone() for name, value in teacher.state_dict().items()}
    before = {name: value.clone() for name, value in state.items()}
    teacher.load_state_dict(state)
    nudge(student)
    teacher.update(student)
    assert all(torch.equal(state[name], before[name]) for name in state)


@RANKS
def test_a_copy_is_the_student_as_it_was_when_it_was_last_due(make_model, rank):
    student = make_model(rank=rank)
    teacher, seen = own_weights(SelfTeacher(update=Periodic(every=3)), student), [logits(student)]
    for step in range(1, 8):
        nudge(student)
        teacher.update(student)
        seen.append(logits(student))
        torch.testing.assert_close(logits(teacher.model), seen[step - step % 3], rtol=0, atol=0)


def test_a_saved_copy_is_renewed_when_it_would_have_been(make_model):
    part, student = SelfTeacher(update=Periodic(every=3)), make_model()
    teacher, resumed = own_weights(part, student), own_weights(part, student)
    for _ in range(2):
        nudge(student)
        teacher.update(student)
    resumed.load_state_dict({name: value.clone() for name, value in teacher.state_dict().items()})
    before = logits(teacher.model)
    torch.testing.assert_close(logits(resumed.model), before, rtol=0, atol=0)
    nudge(student)
    for weights in (teacher, resumed):
        weights.update(student)
        torch.testing.assert_close(logits(weights.model), logits(student), rtol=0, atol=0)
    assert (logits(student) - before).abs().max() > 0.1


def test_a_copy_without_its_age_is_no_saved_copy(make_model):
    student = make_model()
    average = own_weights(SelfTeacher(update=Average()), student)
    with pytest.raises(CheckpointError, match="stand on one side only"):
        own_weights(SelfTeacher(update=Periodic()), student).load_state_dict(average.state_dict())
    with pytest.raises(ConfigError, match="every >= 1"):
        Periodic(every=0)


def test_a_state_of_another_teacher_is_refused(make_model):
    adapted, plain = make_model(rank=4), make_model()
    average = own_weights(SelfTeacher(update=Average()), plain)
    with pytest.raises(CheckpointError, match="stand on one side only"):
        average.load_state_dict(own_weights(SelfTeacher(update=Average()), adapted).state_dict())
    with pytest.raises(CheckpointError, match="shape"):
        average.load_state_dict({name: value[:1] for name, value in average.state_dict().items()})
    for fixed in (FixedWeights(plain), own_weights(SelfTeacher(update=Live()), plain)):
        assert fixed.state_dict() == {}
        fixed.load_state_dict({})
        with pytest.raises(CheckpointError, match="stand on one side only"):
            fixed.load_state_dict(average.state_dict())
