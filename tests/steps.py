"""Steps of given responses whose logits are tables: what a recipe does to each token's own row, with no layer in between."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import dense
from tutelage.recipes import Recipe
from tutelage.types import Author, ComposedSignal, FullSignal, Head, StepBatch, Verdict


def logits(rows: int, vocab: int = 6, *, seed: int = 0, spread: float = 1.5) -> Tensor:
    """A random table."""
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, vocab, generator=generator, dtype=torch.float64)


def step(
    *responses: Sequence[int],
    student: Tensor,
    behaviour: Tensor | None = None,
    authors: Sequence[Author] = (Author.STUDENT,),
    groups: Sequence[int] | None = None,
    rewards: Sequence[float | None] = (),
    turns: Sequence[Sequence[int]] = (),
    **teachers: Tensor,
) -> dense.Problem:
    """A step of responses of given tokens.

    Args:
        responses: Token ids.
        student: Logits, a row for each token that somebody chose.
        behaviour: Log-probability of each token under its sampler; by default the student's own.
        authors: Of the tokens of a response, from its first on; they repeat.
        groups: Prompt of each response; by default each has one of its own.
        rewards: One per response; one of at least a half is right, and none means that the verifier said nothing.
        turns: Turn of each token of each response.
        teachers: Logits by name.
    """
    who = [[authors[time % len(authors)] for time in range(len(ids))] for ids in responses]
    chosen = [token for ids, names in zip(responses, who, strict=True) for token, name in zip(ids, names, strict=True) if name]
    own = student.log_softmax(-1).gather(-1, torch.tensor(chosen).unsqueeze(-1)).squeeze(-1) if behaviour is None else behaviour
    rollouts, row = [], 0
    for index, (ids, names) in enumerate(zip(responses, who, strict=True)):
        mu = torch.full((len(ids),), torch.nan, dtype=torch.float64)
        for time, name in enumerate(names):
            if name is Author.STUDENT:
                mu[time] = own[row]
            row += name is not Author.NONE
        written = dense.rollout(ids, names, mu, group=index if groups is None else groups[index])
        rollouts.append(replace(written, turns=torch.tensor(turns[index])) if turns else written)
    head = Head(weight=torch.eye(student.shape[-1], dtype=torch.float64))
    verdicts = [Verdict(reward=reward, correct=None if reward is None else reward >= 0.5) for reward in rewards]
    return dense.Problem(
        batch=StepBatch.of(rollouts, verdicts),
        hidden=student.clone().requires_grad_(),
        head=head,
        teachers={name: FullSignal(hidden=table, head=head) for name, table in teachers.items()},
    )


def loss(recipe: Recipe, given: dense.Problem, *, at: int = 0) -> float:
    """The objective at an optimiser step."""
    return float(dense.evaluate(recipe.terms, _under(recipe, given), step=at).loss.detach())


def gradient(recipe: Recipe, given: dense.Problem, *, at: int = 0) -> Tensor:
    """Of the objective with respect to the student's logits at an optimiser step, [row, vocab]."""
    return dense.gradients(dense.evaluate(recipe.terms, _under(recipe, given), step=at).loss, given)[0]


def _under(recipe: Recipe, given: dense.Problem) -> dense.Problem:
    """The same step at the recipe's temperatures, with what it makes of its teachers."""
    composed = {
        name: ComposedSignal(parts={part: given.teachers[part] for part in how.parts}, composition=how)
        for name, how in recipe.compositions.items()
    }
    return replace(given, temperatures=recipe.temperatures, teachers={**given.teachers, **composed})


def score(given: dense.Problem) -> Tensor:
    """Gradient of each token's log-probability with respect to its row of logits, [row, vocab]."""
    own = given.hidden.detach().softmax(-1)
    return torch.nn.functional.one_hot(given.batch.token, own.shape[-1]).double() - own


def log_prob(given: dense.Problem, table: Tensor) -> Tensor:
    """Of each token under a table of logits."""
    return table.detach().log_softmax(-1).gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)


def by_row(weight: Tensor, rows: Tensor) -> Tensor:
    """Rows times a factor each."""
    return weight.unsqueeze(-1) * rows


def token_kl(first: Tensor, second: Tensor) -> Tensor:
    """KL between the rows of two tables of logits, by its definition."""
    p, q = first.softmax(-1), second.softmax(-1)
    return (p * (p / q).log()).sum(-1)


def token_kl_gradient(first: Tensor, second: Tensor) -> Tensor:
    """Of the KL between each two rows with respect to the first's logits, in closed form."""
    p, ratio = first.softmax(-1), first.log_softmax(-1) - second.log_softmax(-1)
    return p * (ratio - (p * ratio).sum(-1, keepdim=True))
