"""The two objectives that estimators are compared with, and their gradients, by enumeration of every response."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.lab.exact.world import World


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Target:
    """An objective in nats per token, and its gradient with respect to the student's table."""

    value: float
    gradient: Float[Tensor, "prefix vocab"]


def sequence_level(world: World, *, teacher: str = "teacher") -> Target:
    r"""The reverse KL of whole responses, `sum_y pi_S(y) log(pi_S(y) / pi_T(y))`, per token.

    Its gradient also asks of every token where it leads: what is written now decides which prefixes come next. Divided by
    the student's mean length, which is held fixed.
    """
    student = world.student.detach().requires_grad_()
    log_probs, theirs = student.log_softmax(-1), world.teachers[teacher].log_softmax(-1)
    own = _of_responses(world, log_probs)
    value = (own.exp() * (own - _of_responses(world, theirs))).sum() / _mean_tokens(world, own.detach().exp())
    return Target(value=float(value.detach()), gradient=torch.autograd.grad(value, student)[0])


def token_level(world: World, *, teacher: str = "teacher") -> Target:
    """The reverse KL of every prefix, averaged over the prefixes that the student visits; what it visits is held fixed.

    The value is that of `sequence_level` by the chain rule of the KL. The gradient lacks what a token does to later prefixes.
    """
    student = world.student.detach().requires_grad_()
    log_probs, theirs = student.log_softmax(-1), world.teachers[teacher].log_softmax(-1)
    chance = _of_responses(world, log_probs.detach()).exp()
    rows, responses = _visits(world)
    visits = torch.zeros(len(student), dtype=torch.float64).index_add_(0, rows, chance[responses])
    value = (visits * (log_probs.exp() * (log_probs - theirs)).sum(-1)).sum() / _mean_tokens(world, chance)
    return Target(value=float(value.detach()), gradient=torch.autograd.grad(value, student)[0])


def _of_responses(world: World, log_probs: Float[Tensor, "prefix vocab"]) -> Float[Tensor, " response"]:
    """Log-probability of every response to every prompt, prompt by prompt."""
    rows, responses = _visits(world)
    tokens = torch.tensor([token for response in world.responses for token in response]).repeat(world.size.num_prompts)
    total = torch.zeros(len(world.responses) * world.size.num_prompts, dtype=torch.float64)
    return total.index_add(0, responses, log_probs[rows, tokens])


def _visits(world: World) -> tuple[Tensor, Tensor]:
    """For every token of every response to every prompt: the row of its prefix, and the number of the response."""
    prompts, count = range(world.size.num_prompts), len(world.responses)
    rows = [world.path(prompt, response) for prompt in prompts for response in range(count)]
    return torch.cat(rows), torch.repeat_interleave(torch.tensor([len(path) for path in rows]))


def _mean_tokens(world: World, chance: Float[Tensor, " response"]) -> float:
    """Mean length of a step's responses, one per prompt, together."""
    lengths = torch.tensor([len(response) for response in world.responses], dtype=torch.float64)
    return float((chance * lengths.repeat(world.size.num_prompts)).sum())
