"""A task that is solved token by token: chains of operations modulo ten, with every step written out.

`4+7*3-8=` is answered by `4+7=1;1*3=3;3-8=5;`: each operation takes the running value, from left to right, modulo 10.
"""

import random
from dataclasses import replace

from tutelage.lab.pretrain import Pretraining
from tutelage.lab.tasks.arithmetic import distinct, expression, steps, written
from tutelage.lab.tasks.base import Split, Task
from tutelage.lab.tiny_models import Shape
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

TEACHER = Pretraining(
    shape=Shape(hidden=192, layers=2, heads=6, kv_heads=2, head_dim=32, intermediate=384),
    num_steps=400,
    num_problems=8192,
    learning_rate=2e-3,  # at 3e-3 some seeds are slow to find the rule and end with one problem in six wrong
)
STUDENT = Pretraining(
    shape=Shape(hidden=96, layers=2, heads=6, kv_heads=2, head_dim=16, intermediate=192),
    num_steps=200,
    prompts_per_step=64,
    num_problems=8192,
    learning_rate=2e-3,
)


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different problems; which split a problem belongs to is decided by the problem, so splits never share one.

    Args:
        count: How many. The number of operands is uniform, so a call can give up to a few thousand of the shortest kind.
        seed: Same seed, same problems; a larger count only appends.
        split: `held_out` has one problem in eight.
    """
    return distinct(_draw, count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """Worked problems, the same for teacher and student: they differ in size and in how long they learn."""
    return problems(count, seed=seed)


def example(prompt: str) -> Example:
    """A problem with its final value as `answer` and its worked steps as `solution`."""
    solution = solve(prompt)
    return Example(id=prompt, prompt=prompt, answer=solution[-2], solution=solution)


def solve(prompt: str) -> str:
    """The steps of a problem, for example `4+7=1;1*3=3;` for `4+7*3=`."""
    return written(steps(prompt.removesuffix("=")))


def _draw(generator: random.Random) -> Example:
    return example(expression(generator, num_operands=NUM_OPERANDS, operators=OPERATORS) + "=")


TASK = Task(
    name="chain",
    isolates=(
        "Compounding errors. The student has learnt to write the steps and makes mistakes in the arithmetic; a wrong value is "
        "carried on, so that what it reads while it writes differs from every text that a teacher or a data set would show "
        "it. Training on given texts never visits these prefixes, and nothing else is in the way: the teacher knows the task, "
        "writes in the same style, and there is one right continuation at every token."
    ),
    claim=(
        "That a student learns more from a teacher's corrections of its own text than from as much of the teacher's text: GKD "
        "(arXiv:2306.13649), MiniLLM (arXiv:2306.08543). The plain case that every other task departs from in one way."
    ),
    characters=CHARACTERS,
    max_response_tokens=MAX_RESPONSE_TOKENS,
    verifier=VERIFIER,
    problems=problems,
    lessons=lessons,
    teachers={"teacher": TEACHER},
    student=replace(STUDENT, num_steps=300, accuracy=0.4),
)
