"""Chains modulo five and modulo three, told apart by a mark, with one expert for each.

`f4+3+1=` is answered by `4+3=2;2+1=3;`, and `t4+3+1=` by `4+3=1;1+1=2;`.
"""

import random
from dataclasses import replace

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import distinct, expression, steps, written
from tutelage.lab.tasks.base import Budget, Split, Task
from tutelage.types import Example

MODULI = {"five": 5, "three": 3}
"""By the names of the experts; a prompt begins with the first letter of its own one's."""


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different problems, half of each domain; `teacher_id` names the expert."""
    return distinct(lambda generator: _draw(generator, generator.choice(list(MODULI))), count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """An expert's are of its own domain, the student's of both."""
    if role not in MODULI:
        return problems(count, seed=seed)
    return distinct(lambda generator: _draw(generator, role), count, seed=seed, split="train")


def slice_of(example: Example) -> str:
    """The domain of a problem, by its expert's name."""
    assert example.teacher_id is not None  # every problem of this task has one
    return example.teacher_id


def _draw(generator: random.Random, domain: str) -> Example:
    text = expression(generator, num_operands=chain.NUM_OPERANDS, operators="+", digits=max(MODULI.values()))
    prompt, solution = f"{domain[0]}{text}=", written(steps(text, modulus=MODULI[domain]))
    return Example(id=prompt, prompt=prompt, answer=solution[-2], solution=solution, teacher_id=domain)


TASK = Task(
    name="two_domains",
    isolates=(
        "Two experts to merge. Problems are the same chains modulo five or modulo three, and a mark says which; each expert "
        "knows its own domain and was never shown the other, where it goes on by its own rule or writes nonsense. The student "
        "knows a little of both. Taught by one expert it gets better in that domain and forgets the other; an average of both "
        "experts contradicts itself at every result; routed by the mark it can become as good as each. Accuracy by domain "
        "shows what was won and what was forgotten."
    ),
    claim=(
        "That several experts can be merged into one student by asking for each prompt the expert of its domain, without the "
        "forgetting of training on one after the other: MOPD (arXiv:2601.02780), ExOPD (arXiv:2602.12125)."
    ),
    characters="01234+=;" + "".join(name[0] for name in MODULI),
    max_response_tokens=chain.MAX_RESPONSE_TOKENS,
    verifier=chain.VERIFIER,
    problems=problems,
    lessons=lessons,
    teachers=dict.fromkeys(MODULI, replace(chain.TEACHER, num_steps=320)),
    student=replace(chain.STUDENT, num_steps=200, prompts_per_step=32),
    budget=Budget(),
    slices=slice_of,
)
