import pytest
import torch

import steps
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, make, moments, token_level
from tutelage.objectives import ReverseKL, TopK
from tutelage.recipes import Recipe, revisiting
from tutelage.rollouts.sources import StudentRollouts

VOCAB = 6


def plain(**knobs: object) -> Recipe:
    """Without masks, unless they are asked for."""
    return revisiting(**({"entropy_ratio": 1.0, "skip_first": (), "k": VOCAB} | knobs))


def one_response(length: int = 5, *, seed: int = 0):
    tokens = [time % VOCAB for time in range(length)]
    student, teacher = steps.logits(length, seed=seed), steps.logits(length, seed=seed + 100)
    return steps.step(tokens, student=student, teacher=teacher), student, teacher


@pytest.mark.parametrize("rest", ["tail", "renormalise", "truncate"])
def test_all_entries_without_masks_are_the_exact_reverse_kl(rest):
    given, student, teacher = one_response()
    assert steps.loss(plain(rest=rest), given) == pytest.approx(float(steps.token_kl(student, teacher).mean()))
    expected = steps.token_kl_gradient(student, teacher) / 5
    torch.testing.assert_close(steps.gradient(plain(rest=rest), given), expected)


def test_over_all_responses_its_mean_gradient_is_that_of_the_reverse_kl_at_the_students_prefixes():
    world = make(Size(vocab=4, length=3), seed=1)
    found = moments(world, plain(k=4, n=1, top_p=1.0)).gradient
    torch.testing.assert_close(found, token_level(world).gradient)


@pytest.mark.parametrize("seed", range(5))
def test_a_few_entries_are_a_divergence_between_conditioned_distributions(seed):
    given, student, teacher = one_response(seed=seed)
    kept = teacher.argsort(dim=-1, descending=True)[:, :3]
    expected = steps.token_kl(student.gather(-1, kept), teacher.gather(-1, kept)).mean()
    found = steps.loss(plain(k=3), given)
    assert found == pytest.approx(float(expected))
    assert found >= 0.0


def test_a_constant_in_either_sides_logits_changes_nothing():
    given, student, teacher = one_response()
    tokens = given.batch.token.tolist()
    moved = steps.step(tokens, student=student + 3.0, teacher=teacher - 2.0)
    torch.testing.assert_close(steps.gradient(plain(k=3), moved), steps.gradient(plain(k=3), given))


def test_the_drawn_token_is_kept_as_well_where_that_is_asked_for():
    given, student, teacher = one_response()
    kept = teacher.argsort(dim=-1, descending=True)[:, :2]
    values = []
    for row, token in enumerate(given.batch.token.tolist()):
        entries = sorted({*kept[row].tolist(), token})
        values.append(float(steps.token_kl(student[row, entries], teacher[row, entries])))
    assert steps.loss(plain(k=2, include_sampled=True), given) == pytest.approx(sum(values) / 5)


def test_only_the_first_occurrence_in_each_response_is_left_out_and_not_counted():
    responses = [2, 4, 2, 2], [1, 2], [4, 4]
    student, teacher = steps.logits(8), steps.logits(8, seed=1)
    given = steps.step(*responses, student=student, teacher=teacher)
    recipe = plain(skip_first=("two", "absent"))
    term = recipe.terms[0].resolved({"two": 2}.get)
    left_out = [0, 5]  # the first 2 of the first response and of the second
    kept = torch.tensor([row for row in range(8) if row not in left_out])
    expected = torch.zeros(8, VOCAB, dtype=torch.float64)
    expected[kept] = steps.token_kl_gradient(student, teacher)[kept] / len(kept)
    resolved = Recipe(name="resolved", rollouts=recipe.rollouts, teacher=recipe.teacher, terms=(term,))
    torch.testing.assert_close(steps.gradient(resolved, given), expected)


def test_tokens_that_were_not_looked_up_are_refused():
    given, *_ = one_response()
    with pytest.raises(ConfigError, match="does not know the ids of <, think"):
        steps.loss(revisiting(), given)


def test_the_uncertain_fifth_of_the_tokens_has_the_whole_mean():
    given, student, teacher = one_response(length=20)
    entropy = torch.distributions.Categorical(logits=student).entropy()
    kept = entropy.argsort(descending=True)[:4]
    expected = torch.zeros_like(student)
    expected[kept] = steps.token_kl_gradient(student, teacher)[kept] / 4
    torch.testing.assert_close(steps.gradient(plain(entropy_ratio=0.2), given), expected)


def test_defaults_are_the_published_ones():
    recipe = revisiting("folder")
    assert recipe.terms[0].signal == ReverseKL(support=TopK(k=32, chosen_by="teacher", rest="renormalise"))
    assert isinstance(recipe.rollouts, StudentRollouts)
    assert (recipe.rollouts.sampling.top_p, recipe.rollouts.sampling.n) == (0.9, 8)
    assert {weight.kind for weight in recipe.terms[0].weights} == {"skip_first", "entropy_above"}
