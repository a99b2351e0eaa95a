"""What must hold for every recipe: the battery runs over the registry, so a new method is covered when it is registered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

import dense
from parallel import in_processes
from tutelage import objectives as o
from tutelage.recipes import REGISTRY, Recipe
from tutelage.teachers.parts import AnyTeacher
from tutelage.types import Author, Capability, ComposedSignal, FullSignal, Gather, Head, StepBatch

VOCAB = 160
"""At least as large as any default k."""
WRITERS = (Author.STUDENT, Author.DATASET, Author.STUDENT, Author.TEACHER)
"""Rows of everybody who may write, so that every term of every recipe acts on some."""
MARKS = {"<": 3, "think": 140}
"""Ids of tokens that recipes name by their text."""


def published(name: str) -> Recipe:
    """The recipe as published; a teacher is named where one is needed."""
    entry = REGISTRY[name]
    named = any(knob.name == "teacher" for knob in entry.card.knobs) or "teacher" in entry.make.__annotations__
    recipe = entry.recipe(teacher="some/teacher") if named else entry.recipe()
    return replace(recipe, terms=tuple(term.resolved(MARKS.get) for term in recipe.terms))


RECIPES = {name: published(name) for name in REGISTRY}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
taught = pytest.mark.parametrize(
    "recipe", [recipe for recipe in RECIPES.values() if recipe.needs], ids=[name for name in RECIPES if RECIPES[name].needs]
)


def is_plain(term: o.Term) -> bool:
    """Whether a term is the policy gradient of the log-ratio to the recipe's own teacher and nothing else."""
    signal = term.signal
    return (
        isinstance(signal, o.ScoreFunction)
        and isinstance(signal.advantage, o.LogRatio)
        and signal.advantage.floor is None
        and term.teacher == "teacher"
        and not (term.weights or term.routes)
    )


PURE_SCORE_FUNCTIONS = {name: recipe for name, recipe in RECIPES.items() if all(map(is_plain, recipe.terms))}
"""Recipes whose mean gradient is meant to be that of the reverse KL itself."""


def is_an_objective(term: o.Term) -> bool:
    """Whether the term's value is what its gradient belongs to, once the weights of the whole step are fixed.

    Nothing else that moves with the student may be held fixed in it.
    """
    signal, weights = term.signal, {weight.kind for weight in term.weights if weight.scope == "token"}
    if isinstance(signal, o.CandidateActions):
        return False
    if isinstance(signal, o.ScoreFunction):
        own = isinstance(signal.advantage, o.LogRatio) and signal.advantage.relative_to == "student"
        held = isinstance(signal.ratio, o.NoRatio | o.Band) or (
            isinstance(signal.ratio, o.Importance) and signal.ratio.cap is not None
        )
        return not (own or held or isinstance(signal.advantage, o.Reshaped))
    return not weights - {"teacher_entropy_above"}


OBJECTIVES = {name: recipe for name, recipe in RECIPES.items() if any(map(is_an_objective, recipe.terms))}
"""Recipes with a term that a step has to lower; the others' values are surrogates, and mean nothing by themselves."""


def step_of(recipe: Recipe, *, dtype: torch.dtype = torch.float64, seed: int = 0, stale: float = 0.3) -> dense.Problem:
    """A step in which everybody wrote some tokens, at the recipe's temperatures, with all of its teachers.

    Two responses to each of three prompts: one right and one wrong, both wrong, and one that no verifier judged.
    """

    def problem(seed: int) -> dense.Problem:
        return dense.problem(
            vocab=VOCAB,
            width=6,
            lengths=(5, 1, 8, 3, 2, 4),
            groups=(0, 0, 1, 1, 2, 2),
            rewards=(1.0, 0.0, 0.0, 0.0, None, 1.0),
            authors=WRITERS,
            dtype=dtype,
            temperatures=recipe.temperatures,
            stale=stale,
            seed=seed,
        )

    given = problem(seed)
    others = {name: problem(100 + index).teachers["teacher"] for index, name in enumerate(recipe.references)}
    return with_teachers(given, recipe, {**given.teachers, **others})


def with_teachers(given: dense.Problem, recipe: Recipe, wholes: Mapping[str, FullSignal]) -> dense.Problem:
    """The same step with other teachers, and what the recipe composes of them."""
    composed = {
        name: ComposedSignal(parts={part: wholes[part] for part in composition.parts}, composition=composition)
        for name, composition in recipe.compositions.items()
    }
    return replace(given, teachers={**wholes, **composed})


def whole_plan(terms: Sequence[o.Term], given: dense.Problem) -> o.Plan:
    """The plan of a whole step."""
    return o.plan(terms, given.batch, measured=dense.measure(given, terms))


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
@pytest.mark.parametrize("pieces", [1, 2, 5, 23])
def test_no_split_and_no_order_of_the_step_changes_anything(recipe, pieces):
    given = step_of(recipe, dtype=torch.float32)
    plan = whole_plan(recipe.terms, given)
    whole = dense.evaluate_plan(plan, given)
    expected = dense.gradients(whole.loss, given)
    loss, gradients = 0.0, [torch.zeros_like(leaf) for leaf in given.leaves]
    for rows in torch.randperm(given.batch.num_rows, generator=torch.Generator().manual_seed(1)).chunk(pieces):
        part = dense.evaluate_plan(plan.select(rows), dense.select(given, rows))
        loss += part.loss.item()
        gradients = [
            so_far + more for so_far, more in zip(gradients, torch.autograd.grad(part.loss, given.leaves), strict=True)
        ]
    size = max(1.0, sum(abs(value) for value in whole.terms.values()))  # rows of score functions cancel, their rounding not
    assert abs(loss - whole.loss.item()) <= 1e-6 * size
    for ours, theirs in zip(gradients, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


@every_recipe
@pytest.mark.parametrize("cut", [0, 2, 4])
def test_two_processes_that_share_the_prompts_plan_what_one_does(recipe, cut):
    given = step_of(recipe)
    measured, whole = dense.measure(given, recipe.terms), whole_plan(recipe.terms, given)

    def process(rows: Tensor) -> Callable[[Gather], o.Plan]:
        mine = {name: values[rows] for name, values in measured.items()}
        return lambda gather: o.plan(recipe.terms, given.batch.select(rows), measured=mine, gather=gather)

    halves = [mask.nonzero().squeeze(-1) for mask in (given.batch.rollout < cut, given.batch.rollout >= cut)]
    plans = in_processes([process(rows) for rows in halves])
    for name in ("coefficients", "weights"):
        found = torch.cat([getattr(plan, name) for plan in plans], dim=1)
        torch.testing.assert_close(found, getattr(whole, name), rtol=1e-14, atol=0.0)


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

    padded = replace(
        given, batch=StepBatch.of([pad(rollout) for rollout in given.batch.rollouts], given.batch.verdicts, seed=0)
    )
    ours, theirs = (dense.evaluate(recipe.terms, problem) for problem in (padded, given))
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=0.0, atol=0.0)
    torch.testing.assert_close(dense.gradients(ours.loss, padded), dense.gradients(theirs.loss, given), rtol=0.0, atol=0.0)


@taught
def test_a_student_equal_to_its_teacher_has_no_loss_and_no_gradient(recipe):
    given = step_of(recipe, stale=0.0)
    same = FullSignal(hidden=given.hidden.detach().clone(), head=Head(weight=given.head.weight.detach().clone()))
    equal = with_teachers(given, recipe, dict.fromkeys(recipe.teachers, same))
    behaviour = dense.tables(equal)[0].detach().gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)
    nobody_better = tuple(replace(verdict, reward=0.0) for verdict in given.batch.verdicts)
    equal = replace(equal, batch=replace(given.batch, behaviour_log_probs=behaviour, verdicts=nobody_better))
    found = dense.evaluate([term for term in recipe.terms if not isinstance(term.signal, o.CrossEntropy)], equal)
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
    for name, teacher in recipe.teachers.items():
        assert isinstance(teacher, get_args(AnyTeacher))
        assert recipe.needs_of(name) <= teacher.provides
    assert {term.teacher for term in recipe.terms if term.needs} <= {*recipe.teachers, *recipe.compositions}


@pytest.mark.parametrize("recipe", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_a_small_step_down_lowers_the_objective_on_fixed_rollouts_with_fixed_weights(recipe):
    given, terms = step_of(recipe), [term for term in recipe.terms if is_an_objective(term)]
    plan = whole_plan(terms, given)
    before = dense.evaluate_plan(plan, given)
    after = dense.evaluate_plan(plan, stepped(given, dense.gradients(before.loss, given)))
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
