"""A table that goes on for ten times the tokens of a chain: each digit is the sum of the one above and the one before it.

`=1200112021` is the row above the first; the response has a letter and ten digits per row, modulo three. A row's first digit
is the one above it: `a1000121101`, `b...`. Ten digits, since up to nine would return as they were after nine rows, and models
would copy instead of adding; of ten the last one changes by the first, and rows return after 27.
"""

import random
from dataclasses import replace
from string import ascii_letters

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import distinct
from tutelage.lab.tasks.base import Budget, Split, Task
from tutelage.types import Example
from tutelage.verifiers import ExactMatch

ROWS = ascii_letters[:28]
"""One letter per row, so that the end of a response can be seen coming."""
MODULUS = 3
WIDTH = 10
"""Digits of a row."""


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different problems, all of the same length; the answer is the last row."""
    return distinct(_draw, count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """Whole tables, the same for teacher and student."""
    return problems(count, seed=seed)


def solve(prompt: str) -> str:
    """All rows below the one in the prompt."""
    above, text = [int(digit) for digit in prompt[1:]], ""
    for letter in ROWS:
        row, before = list[int](), 0
        for digit in above:
            before = (digit + before) % MODULUS
            row.append(before)
        above, text = row, text + letter + "".join(map(str, row))
    return text


def _draw(generator: random.Random) -> Example:
    prompt = "=" + "".join(str(generator.randrange(MODULUS)) for _ in range(WIDTH))
    solution = solve(prompt)
    return Example(id=prompt, prompt=prompt, answer=solution[-WIDTH:], solution=solution)


TASK = Task(
    name="long",
    isolates=(
        "Drift over a long response. Each digit of a table is the sum of two earlier ones, over ten times the tokens of a "
        "chain, and a wrong one spreads to all that follow. The student is right about almost every single token, and "
        "wrong at the end because there are so many. Early tokens decide whether the rest can be right; late tokens stand on "
        "prefixes that belong to no table the teacher ever saw, cost as much as early ones, and say little about the "
        "problem. So it matters how far a response is written, from where the teacher is believed, and which part of it counts."
    ),
    claim=(
        "That a short or growing horizon, or a stop where the teacher no longer agrees, gives as much for fewer tokens, and "
        "that weights by position help: ESR (arXiv:2605.27028), ADWIN (arXiv:2605.28396), KAT (arXiv:2606.09471), IW-OPD "
        "(arXiv:2606.22600), PW-OPSD (arXiv:2605.21606)."
    ),
    characters="012=" + ROWS,
    max_response_tokens=len(ROWS) * (WIDTH + 1) + 1,
    verifier=ExactMatch(pattern=rf"{ROWS[-1]}(\d{{{WIDTH}}})$"),
    problems=problems,
    lessons=lessons,
    teachers={"teacher": replace(chain.TEACHER, num_steps=400, prompts_per_step=4, num_problems=1600)},
    student=replace(
        chain.STUDENT,
        shape=chain.TEACHER.shape,
        num_steps=400,
        prompts_per_step=4,
        num_problems=1600,
        accuracy=0.4,
        check_every=4,
    ),
    budget=Budget(num_prompts=64, num_held_out=48, num_steps=20, prompts_per_step=8),
    learning_rate_scale=0.3,
)
