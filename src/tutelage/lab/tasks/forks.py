"""Sums whose terms may be added in any order: several right continuations, and a verifier that takes each.

`4:7385=` asks to add 7, 3, 8 and 5 to 4, modulo five; `4+8=2;2+3=0;0+7=2;2+5=2;` is one of 24 right responses.
"""

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import replace

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import distinct, steps, written
from tutelage.lab.tasks.base import STUDENT, Budget, Split, Task
from tutelage.types import Example
from tutelage.verifiers import FunctionVerifier

MODULUS = 5
NUM_TERMS = 4
"""Digits to add, all different."""
_STEP = re.compile(r"(\d)\+(\d)=(\d);")


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different problems; `solution` adds the terms as they stand in the prompt."""
    return distinct(_draw, count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """The teacher's add the terms in any order, each as likely; the student's as they stand in the prompt."""
    found = problems(count, seed=seed)
    if role == STUDENT:
        return found
    generator = random.Random(f"orders/{seed}")
    return [replace(lesson, solution=_in_some_order(str(lesson.prompt), generator)) for lesson in found]


def judge(prompts: Sequence[str], completions: Sequence[str], **_: object) -> list[float]:
    """One where every term was added once, each step is right, and nothing else was written."""
    return [float(_is_right(prompt, text)) for prompt, text in zip(prompts, completions, strict=True)]


def right_responses(prompt: str) -> set[str]:
    """All that the verifier takes."""
    start, terms = prompt[0], prompt[2:-1]
    return {_solve(start, order) for order in itertools.permutations(terms)}


def at_forks(text: str) -> list[bool]:
    """True for the characters of a response that choose among terms: the second operand of each step but the last."""
    places = [found.start(2) for found in _STEP.finditer(text)][: NUM_TERMS - 1]
    return [place in places for place in range(len(text))]


def _is_right(prompt: str, text: str) -> bool:
    terms = _STEP.findall(text)
    return _solve(prompt[0], [term for _, term, _ in terms]) == text and sorted(prompt[2:-1]) == sorted(
        term for _, term, _ in terms
    )


def _solve(start: str, terms: Sequence[str]) -> str:
    return written(steps(start + "".join(f"+{term}" for term in terms), modulus=MODULUS))


def _in_some_order(prompt: str, generator: random.Random) -> str:
    return _solve(prompt[0], generator.sample(prompt[2:-1], NUM_TERMS))


def _draw(generator: random.Random) -> Example:
    terms = generator.sample("0123456789", NUM_TERMS)
    prompt = f"{generator.randrange(MODULUS)}:{''.join(terms)}="
    solution = _solve(prompt[0], terms)
    return Example(id=prompt, prompt=prompt, answer=solution[-2], solution=solution)


TASK = Task(
    name="forks",
    isolates=(
        "Several right continuations. Four terms are to be added and their order is free, so that 24 responses are right; the "
        "teacher spreads its mass over all of them, the student's lessons knew one order only. At the forks the teacher's "
        "entropy is high although it knows everything, and elsewhere it is zero: uncertainty here is freedom and not "
        "ignorance. A divergence that seeks modes keeps the student's single order, one that covers mass brings the others; "
        "accuracy alone cannot tell them apart, the number of different right responses among several samples can."
    ),
    claim=(
        "That the direction of the divergence decides how much of the teacher's diversity survives, and that tokens of high "
        "entropy are forks that want a treatment of their own: GKD (arXiv:2306.13649), EOPD (arXiv:2603.07079), REOPOLD "
        "(arXiv:2603.11137), TIP (arXiv:2604.14084), Many Faces (arXiv:2605.11182)."
    ),
    characters="0123456789+:=;",
    max_response_tokens=6 * NUM_TERMS + 1,
    verifier=FunctionVerifier(path="tutelage.lab.tasks.forks:judge"),
    problems=problems,
    lessons=lessons,
    teachers={"teacher": replace(chain.TEACHER, num_steps=320)},
    student=replace(chain.STUDENT, num_steps=700, prompts_per_step=32, accuracy=0.4),
    budget=Budget(),
)
