"""The order in which prompts are read: a function of the step, so that a resumed run needs no reader state."""

import random
from dataclasses import dataclass
from functools import lru_cache

from tutelage.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptOrder:
    """Epochs in shuffled order: every example is read once before any is read again.

    A batch that reaches the end of an epoch goes on into the next one; no example is left out and no batch is short.
    """

    num_examples: int
    batch: int
    """Examples per step."""
    seed: int

    def __post_init__(self) -> None:
        if self.num_examples < 1 or self.batch < 1:
            raise ConfigError(
                f"PromptOrder needs num_examples and batch of at least 1, got {self.num_examples!r} and {self.batch!r}."
            )

    def take(self, step: int) -> list[int]:
        """Indices of the examples of a step, counted from 0. Depends on nothing but the fields and `step`."""
        first = step * self.batch
        return [self._at(position) for position in range(first, first + self.batch)]

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, self.num_examples)
        return _permutation(self.num_examples, self.seed, epoch)[place]


@lru_cache(maxsize=4)  # a batch touches two epochs; training and evaluation may read in turns
def _permutation(num_examples: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(num_examples))
    random.Random(f"{seed}/{epoch}").shuffle(order)  # seeded by text: unlike sums, no two (seed, epoch) pairs meet
    return tuple(order)
