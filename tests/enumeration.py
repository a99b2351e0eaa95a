"""A step that holds every token of a small vocabulary once, so that a mean over sampling is a finite sum.

Logits are the hidden states (the head is the identity), and the formulas below are written on plain tables: nothing here uses
the package's mathematics, only its value types and the objective under test.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dense import rollout
from tutelage import objectives
from tutelage.recipes import Recipe
from tutelage.types import Author, FullSignal, Head, StepBatch


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a recipe made of a step."""

    loss: float
    gradient: Tensor
    """Of the whole loss with respect to the student's logits, [row, vocab]."""
    evaluation: objectives.Evaluation


def pair(vocab: int = 7, *, seed: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """Random logits of a student and a teacher for one prefix."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(spread * torch.randn(2, vocab, generator=generator, dtype=torch.float64))  # type: ignore[return-value]


def batch_of(
    tokens: Sequence[int],
    behaviour: Tensor,
    *,
    authors: Sequence[Author] = (Author.STUDENT,),
    noise: Tensor | None = None,
) -> StepBatch:
    """One response of one token for each of `tokens`; authors repeat."""
    who = [authors[row % len(authors)] for row in range(len(tokens))]
    written = [
        rollout([token], [author], log_prob.reshape(1) if author is Author.STUDENT else torch.full((1,), torch.nan), group=row)
        for row, (token, author, log_prob) in enumerate(zip(tokens, who, behaviour, strict=True))
    ]
    batch = StepBatch.of(written)
    return batch if noise is None else replace(batch, noise=noise)


def outcome(recipe: Recipe, batch: StepBatch, student: Tensor, teacher: Tensor, *, step: int = 0) -> Outcome:
    """The recipe's objective and its gradient with respect to each row's logits, all rows at the same prefix."""
    vocab = student.shape[-1]
    head = Head(weight=torch.eye(vocab, dtype=student.dtype))
    hidden = student.expand(batch.num_rows, vocab).clone().requires_grad_()
    theirs = teacher.expand(batch.num_rows, vocab).clone().requires_grad_()
    found = objectives.evaluate(
        objectives.plan(recipe.terms, batch, step=step),
        batch,
        hidden=hidden,
        head=head,
        teachers={"teacher": FullSignal(hidden=theirs, head=head)},
        temperatures=recipe.temperatures,
    )
    found.loss.backward()
    assert theirs.grad is None, "something flowed into the teacher"
    assert hidden.grad is not None
    return Outcome(loss=float(found.loss.detach()), gradient=hidden.grad, evaluation=found)


def every_token(
    recipe: Recipe, student: Tensor, teacher: Tensor, *, behaviour: Tensor | None = None, noise: float = 0.0, step: int = 0
) -> Tensor:
    """For each token what its loss alone would do to the logits, [token, vocab]: the rows' gradients before averaging.

    Args:
        recipe: The method.
        student: Logits, [vocab].
        teacher: Logits, [vocab].
        behaviour: Log-probabilities of the sampler, [vocab]; by default the student's own.
        noise: What random weights are decided by.
        step: Optimiser step.
    """
    vocab = len(student)
    mu = student.log_softmax(-1) if behaviour is None else behaviour
    batch = batch_of(range(vocab), mu, noise=torch.full((vocab,), noise))
    return vocab * outcome(recipe, batch, student, teacher, step=step).gradient


def mean_over(probabilities: Tensor, per_token: Tensor) -> Tensor:
    """The mean of rows over a distribution of tokens."""
    return (probabilities.unsqueeze(-1) * per_token).sum(0)


def reverse_kl_gradient(student: Tensor, teacher: Tensor) -> Tensor:
    """Of KL(pi_S || pi_T) with respect to the student's logits, in closed form."""
    own, ratio = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    return own * (ratio - (own * ratio).sum())


def kl(first: Tensor, second: Tensor) -> float:
    """KL between two distributions given as logits, by its definition."""
    p, q = first.softmax(-1).tolist(), second.softmax(-1).tolist()
    return sum(a * float(torch.log(torch.tensor(a / b, dtype=torch.float64))) for a, b in zip(p, q, strict=True))
