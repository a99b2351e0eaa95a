"""A task that is solved token by token: chains of operations modulo ten, with every step written out.

`4+7*3-8=` is answered by `4+7=1;1*3=3;3-8=5;`: each operation takes the running value, from left to right, modulo 10.
"""

import hashlib
import random
from typing import Literal

from tutelage.types import Example
from tutelage.verifiers import ExactMatch

OPERATORS = "+-*"
CHARACTERS = "0123456789" + OPERATORS + "=;"
NUM_OPERANDS = (3, 6)
"""Fewest and most operands of a problem."""
MAX_RESPONSE_TOKENS = 6 * (NUM_OPERANDS[1] - 1) + 1
"""The longest right response in characters, and its end of sequence."""
VERIFIER = ExactMatch(pattern=r"=(\d);$")
"""Right where the last value is right, whatever was written before it."""

Split = Literal["train", "held_out"]


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different problems; which split a problem belongs to is decided by the problem, so splits never share one.

    Args:
        count: How many. The number of operands is uniform, so a call can give up to a few thousand of the shortest kind.
        seed: Same seed, same problems; a larger count only appends.
        split: `held_out` has one problem in eight.
    """
    generator, found = random.Random(seed), dict[str, Example]()
    while len(found) < count:
        prompt = _draw(generator)
        if split_of(prompt) == split:
            found.setdefault(prompt, example(prompt))
    return list(found.values())


def example(prompt: str) -> Example:
    """A problem with its final value as `answer` and its worked steps as `solution`."""
    solution = solve(prompt)
    return Example(id=prompt, prompt=prompt, answer=solution[-2], solution=solution)


def solve(prompt: str) -> str:
    """The steps of a problem, for example `4+7=1;1*3=3;` for `4+7*3=`."""
    value, steps = int(prompt[0]), list[str]()
    for operator, operand in zip(prompt[1:-1:2], prompt[2:-1:2], strict=True):
        result = _apply(value, operator, int(operand))
        steps.append(f"{value}{operator}{operand}={result};")
        value = result
    return "".join(steps)


def split_of(prompt: str) -> Split:
    """Where a problem belongs, the same on every machine."""
    return "held_out" if hashlib.sha256(prompt.encode()).digest()[0] % 8 == 0 else "train"


def _draw(generator: random.Random) -> str:
    operands = [str(generator.randrange(10)) for _ in range(generator.randint(*NUM_OPERANDS))]
    return operands[0] + "".join(generator.choice(OPERATORS) + operand for operand in operands[1:]) + "="


def _apply(value: int, operator: str, operand: int) -> int:
    match operator:
        case "+":
            return (value + operand) % 10
        case "-":
            return (value - operand) % 10
        case _:
            return (value * operand) % 10
