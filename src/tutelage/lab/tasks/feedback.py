"""Chains whose verifier executes the steps and says what the first wrong one should have been."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import Step, distinct, expression, step, steps, written
from tutelage.lab.tasks.base import Budget, Split, Task
from tutelage.types import Example, Verdict
from tutelage.verifiers import FunctionVerifier

MODULUS = 5
CONTEXT = "#{context}#{prompt}"


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Chains of additions modulo five."""
    return distinct(_draw, count, seed=seed, split=split)


def judge(completions: Sequence[str], solution: Sequence[str], **_: object) -> list[Verdict]:
    """Right where every step is; otherwise with the step that should stand where the first wrong one does."""
    return [_verdict(text, right) for text, right in zip(completions, solution, strict=True)]


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """A third are plain; the others stand behind one step of theirs (what the verifier says) or all (what a peer wrote).

    What stands in a context is not always what arithmetic says, and the response follows it: so it has to be read.
    """
    generator = random.Random(f"contexts/{seed}")
    return [_lesson(lesson, generator) for lesson in problems(count, seed=seed)]


def _verdict(text: str, right: str) -> Verdict:
    written_steps, right_steps = text.split(";"), right.split(";")
    for ours, theirs in zip_longest(written_steps, right_steps):
        if ours != theirs:
            return Verdict(reward=0.0, correct=False, feedback=f"{theirs};" if theirs else right)
    return Verdict(reward=1.0, correct=True)


def _draw(generator: random.Random) -> Example:
    text = expression(generator, num_operands=chain.NUM_OPERANDS, operators="+", digits=MODULUS)
    solution = written(steps(text, modulus=MODULUS))
    return Example(id=f"{text}=", prompt=f"{text}=", answer=solution[-2], solution=solution)


def _lesson(plain: Example, generator: random.Random) -> Example:
    prompt, kind = str(plain.prompt), generator.randrange(3)
    if kind == 0:
        return plain
    found, told = _told(prompt, generator)
    behind = CONTEXT.format(context=found[told] if kind == 1 else written(found), prompt=prompt)
    return replace(plain, id=behind, prompt=behind, solution=written(found))


def _told(prompt: str, generator: random.Random) -> tuple[list[Step], int]:
    """The steps of a problem in which the result of one is any digit and the later ones follow from it; and which one."""
    value, found = int(prompt[0]), list[Step]()
    operations = list(zip(prompt[1:-1:2], prompt[2:-1:2], strict=True))
    told = generator.randrange(len(operations))
    for place, (operator, operand) in enumerate(operations):
        right = step(value, operator, int(operand), modulus=MODULUS)
        found.append(right._replace(result=generator.randrange(MODULUS)) if place == told else right)
        value = found[-1].result
    return found, told


TASK = Task(
    name="feedback",
    isolates=(
        "What a verifier can say besides right or wrong. The verifier executes the steps of a response and, where one is "
        "wrong, tells the step that should stand there. The student has learnt to read such a step, or a whole response of a "
        "peer, in front of a prompt, and is much better with than without: it can teach itself, as its own teacher under that "
        "context, on exactly the token where its response went wrong. A method that only knows the reward has one bit per "
        "response; and where no response of a group is right, it has none, while the feedback still says what to do."
    ),
    claim=(
        "That a model conditioned on feedback or on a successful peer is a teacher for itself, and learns faster than from "
        "rewards: SDPO (arXiv:2601.20802); also as routed or mixed with rewards: SRPO (arXiv:2604.02288)."
    ),
    characters="01234+=;#",
    max_response_tokens=chain.MAX_RESPONSE_TOKENS,
    verifier=FunctionVerifier(path="tutelage.lab.tasks.feedback:judge"),
    problems=problems,
    lessons=lessons,
    teachers={"teacher": replace(chain.TEACHER, num_steps=450)},
    student=replace(chain.STUDENT, num_steps=800, prompts_per_step=32, accuracy=0.4),
    budget=Budget(),
    context_template=CONTEXT,
)
