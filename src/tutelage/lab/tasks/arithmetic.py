"""What most tasks are made of: chains of one-digit operations worked from left to right, and draws of different problems."""

import hashlib
import random
from collections.abc import Callable
from typing import NamedTuple

from tutelage.lab.tasks.base import Split
from tutelage.types import Example


class Step(NamedTuple):
    """One operation and its result."""

    value: int
    operator: str
    operand: int
    result: int

    def __str__(self) -> str:
        return f"{self.value}{self.operator}{self.operand}={self.result};"


def expression(generator: random.Random, *, num_operands: tuple[int, int], operators: str, digits: int = 10) -> str:
    """For example `4+7*3`, with a number of operands between both ends, each as likely, and operands below `digits`."""
    operands = [str(generator.randrange(digits)) for _ in range(generator.randint(*num_operands))]
    return operands[0] + "".join(generator.choice(operators) + operand for operand in operands[1:])


def steps(text: str, *, modulus: int = 10) -> list[Step]:
    """The operations of an expression, each on the running value: `4+7*3` has `4+7=1` and `1*3=3`."""
    value, found = int(text[0]), list[Step]()
    for operator, operand in zip(text[1::2], text[2::2], strict=True):
        found.append(step(value, operator, int(operand), modulus=modulus))
        value = found[-1].result
    return found


def step(value: int, operator: str, operand: int, *, modulus: int = 10) -> Step:
    """One operation with its result modulo `modulus`."""
    match operator:
        case "+":
            result = value + operand
        case "-":
            result = value - operand
        case _:
            result = value * operand
    return Step(value, operator, operand, result % modulus)


def written(found: list[Step]) -> str:
    """The steps as text, for example `4+7=1;1*3=3;`."""
    return "".join(map(str, found))


def split_of(prompt: str) -> Split:
    """Where a problem belongs, the same on every machine; `held_out` has one in eight."""
    return "held_out" if hashlib.sha256(prompt.encode()).digest()[0] % 8 == 0 else "train"


def distinct(draw: Callable[[random.Random], Example], count: int, *, seed: int, split: Split) -> list[Example]:
    """Different problems of one split.

    Args:
        draw: Makes one problem; its prompt is plain text, is its name and decides its split.
        count: How many.
        seed: Same seed, same problems; a larger count only appends.
        split: Splits never share a problem, because each problem decides for itself.
    """
    generator, found = random.Random(seed), dict[str, Example]()
    while len(found) < count:
        example = draw(generator)
        if split_of(example.id) == split:
            found.setdefault(example.id, example)
    return list(found.values())
