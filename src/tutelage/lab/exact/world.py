"""The world of the exact oracle: a student, teachers and a verifier as tables, small enough to list every response.

A *prefix* is what was written so far; every prefix of every prompt has a number and a row of logits of its own. So the tables
can hold any autoregressive model of that vocabulary and length, and a gradient with respect to the logits is a gradient with
respect to the parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Example

Response = tuple[int, ...]
"""Token ids."""
MOST_OUTCOMES = 20_000
"""More are refused: each is one step of training, taken one after another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How large the tables are."""

    vocab: int = 4
    """Number of tokens."""
    length: int = 3
    """Longest response in tokens; stands in for the recipe's `max_new_tokens`."""
    end: bool = False
    """Whether the last token of the vocabulary ends a response, so that lengths vary."""
    num_prompts: int = 1
    """Prompts of a step, each with tables of its own."""

    def __post_init__(self) -> None:
        if self.vocab < 2 or self.length < 1 or self.num_prompts < 1:
            raise ConfigError(
                f"The exact world needs vocab >= 2, length >= 1 and num_prompts >= 1, got vocab {self.vocab!r}, length "
                f"{self.length!r}, num_prompts {self.num_prompts!r}."
            )
        if self.num_responses > MOST_OUTCOMES:  # before anything lists them
            raise ConfigError(
                f"A vocabulary of {self.vocab} and length {self.length} have {self.num_responses:,} responses, and at most "
                f"{MOST_OUTCOMES:,} are enumerated. Lower --vocab or --length; 4 and 3 are the defaults."
            )

    @property
    def end_id(self) -> int | None:
        """What ends a response."""
        return self.vocab - 1 if self.end else None

    @property
    def num_prefixes(self) -> int:
        """Prefixes of one prompt after which a token is written."""
        ongoing = self.vocab - 1 if self.end else self.vocab
        return sum(ongoing**depth for depth in range(self.length))

    @property
    def num_responses(self) -> int:
        """Different responses to one prompt."""
        ongoing = self.vocab - 1 if self.end else self.vocab
        ended = sum(ongoing**depth for depth in range(self.length)) if self.end else 0
        return ongoing**self.length + ended


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Tables in float64. Rows are prefixes, those of one prompt behind those of the one before."""

    size: Size
    student: Float[Tensor, "prefix vocab"]
    """Logits."""
    teachers: Mapping[str, Float[Tensor, "prefix vocab"]]
    """Logits by the teacher's name. One that reads a privileged context is another table: what it read is in its numbers."""
    rewards: Float[Tensor, "prompt response"]
    """What the verifier says of each response, 0 or 1."""

    @cached_property
    def responses(self) -> tuple[Response, ...]:
        """Every response to a prompt, in the order of `rewards`."""
        size = self.size
        ongoing = range(size.vocab - 1 if size.end else size.vocab)
        whole = list(product(ongoing, repeat=size.length))
        if size.end:
            whole += [(*start, size.vocab - 1) for depth in range(size.length) for start in product(ongoing, repeat=depth)]
        return tuple(whole)

    @cached_property
    def _numbers(self) -> Mapping[Response, int]:
        starts = sorted({response[:time] for response in self.responses for time in range(len(response))}, key=_by_length)
        return {start: number for number, start in enumerate(starts)}

    @cached_property
    def paths(self) -> tuple[Int[Tensor, " time"], ...]:
        """For each response the numbers of the prefixes before its tokens, for the first prompt."""
        return tuple(torch.tensor([self._numbers[y[:time]] for time in range(len(y))]) for y in self.responses)

    def path(self, prompt: int, response: int) -> Int[Tensor, " time"]:
        """The rows of the tables that a response to a prompt passes."""
        return self.paths[response] + prompt * self.size.num_prefixes

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """The prompts."""
        return tuple(Example(id=f"prompt-{prompt}", prompt="?") for prompt in range(self.size.num_prompts))


def make(size: Size, *, seed: int = 0, distance: float = 1.0, teachers: Sequence[str] = ("teacher",)) -> World:
    """A random world.

    Args:
        size: Of the tables.
        seed: Same seed, same tables.
        distance: Standard deviation of a teacher's logits around the student's, whose own is 1.
        teachers: Names; the first one's table does not depend on how many there are.
    """
    if distance < 0.0:
        raise ConfigError(f"The exact world needs distance >= 0, got {distance!r}: it is a standard deviation.")
    generator = torch.Generator().manual_seed(seed)
    shape = (size.num_prompts * size.num_prefixes, size.vocab)

    def table() -> Float[Tensor, "prefix vocab"]:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    student = table()
    rewards = torch.rand((size.num_prompts, size.num_responses), generator=generator) < 0.5
    return World(
        size=size,
        student=student,
        teachers={name: student + distance * table() for name in teachers},
        rewards=rewards.double(),
    )


def _by_length(start: Response) -> tuple[int, Response]:
    return len(start), start
