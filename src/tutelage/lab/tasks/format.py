"""Chains under an output contract: brackets around every step that all have to be closed, and the value once more in the end.

`4+3*3=` is answered by `(4+3=2;(2*3=1;))1`, modulo five. A right value in a response that breaks the contract is worth nothing.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import distinct, expression, steps
from tutelage.lab.tasks.base import STUDENT, Budget, Split, Task
from tutelage.types import Example, Verdict
from tutelage.verifiers import FunctionVerifier

MODULUS = 5
NUM_OPERANDS = (3, 5)
"""Fewest and most operands of a problem."""
SLOPPINESS = 0.5
"""Probability that a closing bracket is missing or one too many in a lesson of the student's."""
_CONTRACT = re.compile(r"(?P<steps>(?:\(\d[-+*]\d=\d;)+)(?P<closing>\)+)(?P<value>\d)")
_LAST_VALUE = re.compile(r".*=(\d);", re.DOTALL)


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different problems with a response that keeps the contract as `solution`."""
    return distinct(_draw, count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """The teacher's keep the contract; in half of the student's one bracket is missing or too many."""
    found, generator = problems(count, seed=seed), random.Random(f"brackets/{seed}")
    return [_sloppy(lesson, generator) for lesson in found] if role == STUDENT else found


def judge(completions: Sequence[str], answer: Sequence[str], **_: object) -> list[Verdict]:
    """Right where contract and value are; the marks `contract` and `value` say which of them is."""
    return [_verdict(text, right) for text, right in zip(completions, answer, strict=True)]


def keeps_contract(text: str) -> bool:
    """Whether every step's bracket is closed, and the value at the end is that of the last step."""
    found = _CONTRACT.fullmatch(text)
    if found is None:
        return False
    return found["steps"].count("(") == len(found["closing"]) and found["steps"][-2] == found["value"]


def _verdict(text: str, right: str) -> Verdict:
    last = _LAST_VALUE.match(text)
    contract, value = keeps_contract(text), last is not None and last[1] == right
    marks = {"contract": float(contract), "value": float(value)}
    return Verdict(reward=float(contract and value), correct=contract and value, marks=marks)


def _draw(generator: random.Random) -> Example:
    text = expression(generator, num_operands=NUM_OPERANDS, operators=chain.OPERATORS, digits=MODULUS)
    found = steps(text, modulus=MODULUS)
    answer = str(found[-1].result)
    solution = "".join(f"({step}" for step in found) + ")" * len(found) + answer
    return Example(id=f"{text}=", prompt=f"{text}=", answer=answer, solution=solution)


def _sloppy(lesson: Example, generator: random.Random) -> Example:
    solution = str(lesson.solution)
    if generator.random() >= SLOPPINESS:
        return lesson
    body, value = (solution[:-2] if generator.random() < 0.5 else solution[:-1] + ")"), solution[-1]
    return replace(lesson, solution=body + value)


TASK = Task(
    name="format",
    isolates=(
        "An output contract with a cliff. Steps stand in brackets that all have to be closed, and the last value has to be "
        "repeated at the end; a response that breaks this in one character is worth nothing, however right its value. The "
        "student's lessons were sloppy about the brackets, so that a part of its right values is lost to format alone. "
        "The tokens that decide are few and say nothing about the problem, the loss hardly shows them, and a method that "
        "pushes the student past its teacher falls off: what had been certain becomes more than certain in the wrong place."
    ),
    claim=(
        "That extrapolating beyond the teacher gains until a threshold past which the format breaks at once: ExOPD "
        "(arXiv:2602.12125), the extrapolation cliff of ListOPD (arXiv:2605.08737); and that filtering by outcome before "
        "weighting tokens helps: FiRe-OPD (arXiv:2606.02684)."
    ),
    characters="01234+-*=;()",
    max_response_tokens=8 * (NUM_OPERANDS[1] - 1) + 3,  # a sloppy lesson has a bracket more than a right response
    verifier=FunctionVerifier(path="tutelage.lab.tasks.format:judge"),
    problems=problems,
    lessons=lessons,
    teachers={"teacher": replace(chain.TEACHER, num_steps=360)},
    student=replace(chain.STUDENT, num_steps=300, prompts_per_step=32, accuracy=0.3),
    budget=Budget(),
)
