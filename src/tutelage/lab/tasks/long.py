"""A few digits to add again and again, so that a response has about ten times as many tokens as one of the chain.

`4:7389=` is answered by cycles of `a71348291`, `b...`: a letter counts the cycles, and behind each digit that is added stands
the running value modulo ten.
"""

import random
from dataclasses import replace
from string import ascii_letters

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import distinct
from tutelage.lab.tasks.base import Budget, Split, Task
from tutelage.types import Example
from tutelage.verifiers import ExactMatch

COUNTERS = ascii_letters[:33]
"""One letter per cycle. Their number has no common divisor with ten, so that no cycle's shift cancels in the end."""
NUM_TERMS = 4
"""Digits that a cycle adds. There is no multiplication, whose zeros would make a wrong value right again."""
CYCLE_TOKENS = 1 + 2 * NUM_TERMS


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different problems, all of the same length."""
    return distinct(_draw, count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """Worked problems, the same for teacher and student."""
    return problems(count, seed=seed)


def solve(prompt: str) -> str:
    """All cycles of a problem."""
    value, text = int(prompt[0]), ""
    for counter in COUNTERS:
        text += counter
        for term in prompt[2:-1]:
            value = (value + int(term)) % 10
            text += f"{term}{value}"
    return text


def _draw(generator: random.Random) -> Example:
    digits = [str(generator.randrange(10)) for _ in range(NUM_TERMS + 1)]
    prompt = f"{digits[0]}:{''.join(digits[1:])}="
    solution = solve(prompt)
    return Example(id=prompt, prompt=prompt, answer=solution[-1], solution=solution)


TASK = Task(
    name="long",
    isolates=(
        "Drift over a long response. Four digits are added 33 times over, about ten times the tokens of a chain, and a wrong "
        "value shifts all that follow. The student is right about almost every single token, and wrong at the end because "
        "there are so many. Early tokens decide whether the rest can be right; late tokens stand on prefixes that the teacher "
        "never saw, cost as much as early ones, and say little about the problem. So it matters how far a response is written, "
        "from where the teacher is believed, and which part of it counts."
    ),
    claim=(
        "That a short or growing horizon, or a stop where the teacher no longer agrees, gives as much for fewer tokens, and "
        "that weights by position help: ESR (arXiv:2605.27028), ADWIN (arXiv:2605.28396), KAT (arXiv:2606.09471), IW-OPD "
        "(arXiv:2606.22600), PW-OPSD (arXiv:2605.21606)."
    ),
    characters="0123456789:=" + COUNTERS,
    max_response_tokens=len(COUNTERS) * CYCLE_TOKENS + 1,
    verifier=ExactMatch(pattern=rf"{COUNTERS[-1]}\d{{{2 * NUM_TERMS - 1}}}(\d)$"),
    problems=problems,
    lessons=lessons,
    teachers={"teacher": replace(chain.TEACHER, num_steps=300, prompts_per_step=4, num_problems=1200)},
    student=replace(chain.STUDENT, num_steps=200, prompts_per_step=4, num_problems=800),
    budget=Budget(num_prompts=64, num_held_out=64, num_steps=25, prompts_per_step=8),
)
