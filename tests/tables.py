"""Worlds of the exact oracle and the same sums on plain tables: no plan, no head, no signal of the package."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tutelage.lab.exact import Size, World, make
from tutelage.objectives import Constant, ReverseKL, Term, TokenMean
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import AnyRollouts, Sampling, StudentRollouts
from tutelage.teachers.parts import ModelTeacher


def world(vocab: int = 3, length: int = 3, *, end: bool = False, num_prompts: int = 1, seed: int = 0) -> World:
    """A random world."""
    return make(Size(vocab=vocab, length=length, end=end, num_prompts=num_prompts), seed=seed)


def of_tables(size: Size, student: Tensor, **teachers: Tensor) -> World:
    """A world of given logits; a row of one prefix is repeated for all."""
    shape = (size.num_prompts * size.num_prefixes, size.vocab)
    tables = {name: table.expand(shape).clone() for name, table in teachers.items()}
    return replace(make(size), student=student.expand(shape).clone(), teachers=tables)


def recipe(
    *signals: object,
    rollouts: AnyRollouts | None = None,
    reduction: TokenMean | Constant = TokenMean(),
    teachers: Sequence[str] = (),
    scales: Sequence[float] = (),
) -> Recipe:
    """A recipe with a term per signal; a signal may be anybody's, which the annotations of `Term` do not know."""
    terms = []
    for place, signal in enumerate(signals):
        term = Term(
            name=f"term-{place}",
            signal=ReverseKL(),
            reduction=reduction,
            teacher=teachers[place] if teachers else "teacher",
            scale=scales[place] if scales else 1.0,
        )
        object.__setattr__(term, "signal", signal)
        terms.append(term)
    source = StudentRollouts(sampling=Sampling()) if rollouts is None else rollouts
    return Recipe(name="test", rollouts=source, teacher=ModelTeacher(model=""), terms=tuple(terms))


def log_probs(world: World, table: Tensor, response: int, *, prompt: int = 0) -> list[Tensor]:
    """Of each token of a response."""
    rows, tokens = world.path(prompt, response).tolist(), world.responses[response]
    return [table[row].log_softmax(-1)[token] for row, token in zip(rows, tokens, strict=True)]


def scores(world: World, response: int, *, prompt: int = 0) -> Tensor:
    """The gradient of each token's log-probability with respect to the student's table, [time, prefix, vocab]."""
    rows, tokens = world.path(prompt, response).tolist(), world.responses[response]
    found = torch.zeros(len(tokens), *world.student.shape, dtype=torch.float64)
    for time, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        found[time, row] = -world.student[row].softmax(-1)
        found[time, row, token] += 1.0
    return found


def chance(world: World, response: int, *, prompt: int = 0) -> float:
    """Probability that the student writes a response."""
    return float(torch.stack(log_probs(world, world.student, response, prompt=prompt)).sum().exp())


def rewards(world: World, response: int) -> Tensor:
    """`log pi_T - log pi_S` of each token."""
    pairs = zip(log_probs(world, world.teachers["teacher"], response), log_probs(world, world.student, response), strict=True)
    return torch.stack([theirs - own for theirs, own in pairs])


def moments_by_hand(world: World, worth: dict[int, Tensor]) -> tuple[Tensor, float]:
    """Mean and variance of the token mean of `-worth_t grad log pi_S(y_t)`, summed response by response.

    Args:
        world: With one prompt.
        worth: What each token of each response is worth.
    """
    mean, second = torch.zeros_like(world.student), 0.0
    for response in range(len(world.responses)):
        tokens = len(world.responses[response])
        gradient = -(worth[response].reshape(-1, 1, 1) * scores(world, response)).sum(0) / tokens
        mean += chance(world, response) * gradient
        second += chance(world, response) * float(gradient.square().sum())
    return mean, second - float(mean.square().sum())
