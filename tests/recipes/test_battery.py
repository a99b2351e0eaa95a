"""What must hold for every recipe: the battery runs over the registry, so a new method is covered when it is registered."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

import dense
from tutelage import objectives as o
from tutelage.recipes import REGISTRY, Recipe
from tutelage.teachers.parts import AnyTeacher
from tutelage.types import Author, Capability, FullSignal, Head, StepBatch

VOCAB = 160
"""At least as large as any default k."""
WRITERS = (Author.STUDENT, Author.DATASET, Author.STUDENT, Author.TEACHER)
"""Rows of everybody who may write, so that every term of every recipe acts on some."""


def published(name: str) -> Recipe:
    """The recipe as published; a teacher is named where one is needed."""
    entry = REGISTRY[name]
    named = any(knob.name == "teacher" for knob in entry.card.knobs) or "teacher" in entry.make.__annotations__
    return entry.recipe(teacher="some/teacher") if named else entry.recipe()


RECIPES = {name: published(name) for name in REGISTRY}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
taught = pytest.mark.parametrize(
    "recipe", [recipe for recipe in RECIPES.values() if recipe.needs], ids=[name for name in RECIPES if RECIPES[name].needs]
)

PURE_SCORE_FUNCTIONS = {
    name: recipe
    for name, recipe in RECIPES.items()
    if all(isinstance(term.signal, o.ScoreFunction) and not term.weights for term in recipe.terms)
}
"""Recipes whose mean gradient is meant to be that of the reverse KL itself."""


def step_of(recipe: Recipe, *, dtype: torch.dtype = torch.float64, seed: int = 0, stale: float = 0.3) -> dense.Problem:
    """A step in which everybody wrote some tokens, at the recipe's temperatures."""
    return dense.problem(
        vocab=VOCAB,
        width=6,
        lengths=(5, 1, 8),
        authors=WRITERS,
        dtype=dtype,
        temperatures=recipe.temperatures,
        stale=stale,
        seed=seed,
    )


def whole_plan(recipe: Recipe, given: dense.Problem) -> o.Plan:
    """The plan of a whole step."""
    measured = o.measure(
        given.batch, hidden=given.hidden, head=given.head, teachers=given.teachers, temperatures=given.temperatures
    )
    return o.plan(recipe.terms, given.batch, measured=measured)


@every_recipe
@pytest.mark.parametrize("seed", [0, 1])
def test_the_fused_head_gives_what_the_dense_computation_gives(recipe, seed):
    given = step_of(recipe, seed=seed)
    expected = dense.loss(recipe.terms, given)
    found = dense.evaluate(recipe.terms, given)
    torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(dense.gradients(found.loss, given), dense.gradients(expected, given), strict=True):
        assert theirs.norm() > 0.0
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)


@every_recipe
@pytest.mark.parametrize("pieces", [1, 2, 5, 14])
def test_no_split_and_no_order_of_the_step_changes_anything(recipe, pieces):
    given = step_of(recipe, dtype=torch.float32)
    plan = whole_plan(recipe, given)
    whole = dense.evaluate_plan(plan, given)
    expected = dense.gradients(whole.loss, given)
    loss, gradients = 0.0, [torch.zeros_like(leaf) for leaf in given.leaves]
    for rows in torch.randperm(given.batch.num_rows, generator=torch.Generator().manual_seed(1)).chunk(pieces):
        part = dense.evaluate_plan(plan.select(rows), dense.select(given, rows))
        loss += part.loss.item()
        gradients = [
            so_far + more for so_far, more in zip(gradients, torch.autograd.grad(part.loss, given.leaves), strict=True)
        ]
    assert abs(loss - whole.loss.item()) <= 1e-6 * sum(abs(value) for value in whole.terms.values())
    for ours, theirs in zip(gradients, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


@every_recipe
def test_tokens_that_nobody_chose_change_nothing(recipe):
    given = step_of(recipe)
    tail = torch.full((3,), 7)

    def pad(rollout: object) -> object:
        return replace(
            rollout,
            response_ids=torch.cat([rollout.response_ids, tail]),
            authors=torch.cat([rollout.authors, torch.full((3,), int(Author.NONE))]),
            behaviour_log_probs=torch.cat([rollout.behaviour_log_probs, torch.full((3,), torch.nan, dtype=torch.float64)]),
        )

    padded = replace(given, batch=StepBatch.of([pad(rollout) for rollout in given.batch.rollouts], seed=0))
    ours, theirs = (dense.evaluate(recipe.terms, problem) for problem in (padded, given))
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=0.0, atol=0.0)
    torch.testing.assert_close(dense.gradients(ours.loss, padded), dense.gradients(theirs.loss, given), rtol=0.0, atol=0.0)


@taught
def test_a_student_equal_to_its_teacher_has_no_loss_and_no_gradient(recipe):
    given = step_of(recipe, stale=0.0)
    same = FullSignal(hidden=given.hidden.detach().clone(), head=Head(weight=given.head.weight.detach().clone()))
    equal = replace(given, teachers={"teacher": same})
    behaviour = dense.tables(equal)[0].detach().gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)
    equal = replace(equal, batch=replace(given.batch, behaviour_log_probs=behaviour))
    found = dense.evaluate(recipe.terms, equal)
    assert abs(found.loss.item()) < 1e-12
    for gradient in dense.gradients(found.loss, equal):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0.0)


@every_recipe
def test_a_recipe_survives_json(recipe):
    adapter = TypeAdapter(Recipe)
    assert adapter.validate_json(adapter.dump_json(recipe)) == recipe
    assert hash(recipe.terms) == hash(adapter.validate_json(adapter.dump_json(recipe)).terms)


@every_recipe
def test_a_teacher_exists_that_provides_what_a_recipe_needs(recipe):
    assert recipe.needs <= frozenset(get_args(Capability))
    if recipe.teacher is None:
        assert not recipe.needs
    else:
        assert isinstance(recipe.teacher, get_args(AnyTeacher))
        assert recipe.needs <= recipe.teacher.provides


@every_recipe
def test_a_small_step_down_lowers_the_objective_on_fixed_rollouts(recipe):
    given = step_of(recipe)
    before = dense.evaluate(recipe.terms, given)
    after = dense.evaluate(recipe.terms, stepped(given, dense.gradients(before.loss, given)))
    assert after.loss < before.loss


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("recipe", PURE_SCORE_FUNCTIONS.values(), ids=PURE_SCORE_FUNCTIONS.keys())
def test_a_small_step_along_the_mean_of_a_score_function_lowers_the_exact_reverse_kl(recipe, seed):
    given, chances = enumerated(recipe, seed=seed)
    plan = replace(o.plan(recipe.terms, given.batch), coefficients=chances.expand(len(recipe.terms), -1))
    gradients = dense.gradients(dense.evaluate_plan(plan, given).loss, given)
    assert reverse_kl(stepped(given, gradients), chances) < reverse_kl(given, chances)


def stepped(given: dense.Problem, gradients: list[Tensor]) -> dense.Problem:
    """The problem with its leaves moved a little against their gradients."""
    rate = 1e-3 / max(float(gradient.norm()) for gradient in gradients)
    hidden, weight = (
        (leaf.detach() - rate * gradient).requires_grad_() for leaf, gradient in zip(given.leaves, gradients, strict=True)
    )
    return replace(given, hidden=hidden, head=replace(given.head, weight=weight))


def enumerated(recipe: Recipe, *, seed: int, prefixes: int = 2) -> tuple[dense.Problem, Tensor]:
    """Every token of some prefixes as a row, and the student's probability of it."""
    given = dense.problem(
        vocab=VOCAB, width=6, lengths=(prefixes * VOCAB,), temperatures=recipe.temperatures, stale=0.0, seed=seed
    )
    prefix, token = torch.arange(prefixes).repeat_interleave(VOCAB), torch.arange(VOCAB).repeat(prefixes)
    signal = given.teachers["teacher"]
    given = replace(
        given,
        hidden=given.hidden.detach()[prefix].requires_grad_(),
        teachers={"teacher": FullSignal(hidden=signal.hidden[prefix], head=signal.head)},
    )
    student = dense.tables(given)[0].detach().gather(-1, token.unsqueeze(-1)).squeeze(-1)
    return replace(given, batch=replace(given.batch, token=token, behaviour_log_probs=student)), student.exp()


def reverse_kl(given: dense.Problem, chances: Tensor) -> float:
    """The exact reverse KL, summed over the enumerated prefixes: the chances of each one's rows add up to one."""
    student, teacher = dense.tables(given)
    return float((chances * (student.exp() * (student - teacher)).sum(-1)).sum().detach())
