"""Chains whose teacher was taught wrong results after one operator: it is uncertain there, often wrong, and right elsewhere."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import Step, distinct, expression, step, written
from tutelage.lab.tasks.base import STUDENT, Budget, Split, Task
from tutelage.types import Example

NOISE = 0.8
"""Probability that the result of an addition in the teacher's lessons is a random digit."""
RELIABLE, UNRELIABLE = "without +", "with +"
_RESULT = re.compile(r"(?<=\+\d=)\d")


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """As of the chain; every other problem has no addition, so that both classes can be told apart."""
    return distinct(lambda generator: _draw(generator, ("*", "+*")), count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """The teacher's have wrong sums; the student's are right, with four additions to a multiplication."""
    if role == STUDENT:
        return distinct(lambda generator: _draw(generator, ("++++*",)), count, seed=seed, split="train")
    generator = random.Random(f"noise/{seed}")
    return [replace(lesson, solution=_with_noise(str(lesson.prompt), generator)) for lesson in problems(count, seed=seed)]


def unreliable(text: str) -> list[bool]:
    """True for the characters of a response in which the teacher was taught wrong values: results of additions."""
    places = {found.start() for found in _RESULT.finditer(text)}
    return [place in places for place in range(len(text))]


def slice_of(example: Example) -> str:
    """Whether a problem needs what the teacher was taught wrongly."""
    return UNRELIABLE if "+" in example.prompt else RELIABLE


def _draw(generator: random.Random, operators: Sequence[str]) -> Example:
    return chain.example(expression(generator, num_operands=chain.NUM_OPERANDS, operators=generator.choice(operators)) + "=")


def _with_noise(prompt: str, generator: random.Random) -> str:
    """The steps of a problem with some sums replaced; what follows is right for the replaced value."""
    value, found = int(prompt[0]), list[Step]()
    for operator, operand in zip(prompt[1:-1:2], prompt[2:-1:2], strict=True):
        right = step(value, operator, int(operand))
        wrong = operator == "+" and generator.random() < NOISE
        found.append(right._replace(result=generator.randrange(10)) if wrong else right)
        value = found[-1].result
    return written(found)


TASK = Task(
    name="noisy_teacher",
    isolates=(
        "A teacher that is wrong on a known class of tokens. It was taught chains in which the result of an addition is a "
        "random digit four times in five, and everything else is right: on these digits it is uncertain and often wrong, and "
        "elsewhere it is nearly perfect. The student starts out better than its teacher on additions and worse on "
        "multiplications. Imitating every token teaches it to unlearn what it knew; a method that can tell reliable from "
        "unreliable tokens gains on one class without losing on the other. Which tokens are of the class can be computed, so "
        "that what a method's weights do is measured and not guessed."
    ),
    claim=(
        "That tokens should count by how much the teacher can be trusted on them or by how uncertain the models are there: TIP "
        "(arXiv:2604.14084), TA-OPD (arXiv:2605.26844), FiRe-OPD (arXiv:2606.02684), EOPD (arXiv:2603.07079), REOPOLD "
        "(arXiv:2603.11137) and TrOPD (arXiv:2606.01249)."
    ),
    characters="0123456789+*=;",
    max_response_tokens=chain.MAX_RESPONSE_TOKENS,
    verifier=chain.VERIFIER,
    problems=problems,
    lessons=lessons,
    teachers={"teacher": chain.TEACHER},
    student=replace(chain.STUDENT, num_steps=400, prompts_per_step=32, accuracy=0.6),
    budget=Budget(),
    slices=slice_of,
)
