import pytest
import torch

import steps
import tables
from tutelage.lab.exact import Size, make, moments
from tutelage.recipes import seq_kd, sft
from tutelage.rollouts.sources import TeacherRollouts
from tutelage.types import Author


def test_the_gradient_is_the_students_probabilities_minus_the_teachers_token():
    given = steps.step([0, 3, 1], [2], student=steps.logits(4), authors=[Author.TEACHER])
    torch.testing.assert_close(steps.gradient(seq_kd(), given), -steps.score(given) / 4)


def test_the_students_own_tokens_are_not_imitated():
    given = steps.step([0, 3, 1], student=steps.logits(3), authors=[Author.TEACHER, Author.STUDENT])
    found = steps.gradient(seq_kd(), given)
    assert found[1].abs().max() == 0.0
    assert found[[0, 2]].abs().min() > 0.0


@pytest.mark.parametrize("seed", range(3))
def test_the_teacher_writes_its_likeliest_token_every_time(seed):
    world = make(Size(vocab=3, length=3), seed=seed)
    prefix: tuple[int, ...] = ()
    for _ in range(3):
        response = next(index for index, ids in enumerate(world.responses) if ids[: len(prefix)] == prefix)
        row = int(world.path(0, response)[len(prefix)])
        prefix = (*prefix, int(world.teachers["teacher"][row].argmax()))
    expected = -tables.scores(world, world.responses.index(prefix)).sum(0) / 3
    found = moments(world, seq_kd())
    torch.testing.assert_close(found.gradient, expected)
    assert found.num_outcomes == 1


def test_at_temperature_one_it_is_supervised_training_on_the_teachers_samples():
    world = make(Size(vocab=3, length=2), seed=1)
    sampled, supervised = (moments(world, recipe) for recipe in (seq_kd(temperature=1.0), sft(source="teacher")))
    torch.testing.assert_close(sampled.gradient, supervised.gradient)
    assert sampled.value == pytest.approx(supervised.value)


def test_defaults_are_greedy_and_once_for_the_whole_run():
    recipe = seq_kd("folder")
    assert isinstance(recipe.rollouts, TeacherRollouts)
    assert (recipe.rollouts.sampling.temperature, recipe.rollouts.sampling.n) == (0.0, 1)
