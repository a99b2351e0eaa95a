"""Sums with a last step that only a privileged context knows: by one rule for all problems, or by a number of each its own.

`a3124=` (a rule for all) and `b3124=` (a number of its own) are answered by `3+1=4;4+2=1;1+4=0;0&3=3;`, modulo five, where the
context is `&3`: what it says is added in the end, and the step has a mark of its own.
"""

import random
from dataclasses import replace

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import distinct, steps, written
from tutelage.lab.tasks.base import STUDENT, Budget, Split, Task
from tutelage.types import Example
from tutelage.verifiers import ExactMatch

SHARED, INSTANCE = "shared rule", "instance"
MODULUS = 5
RULE = 3
"""What is added in the end to every problem of the shared rule."""
NUM_TERMS = (4, 6)
"""Fewest and most digits of a prompt."""
MARK = "&"
"""Stands for + where the context says what to add."""
CONTEXT = "#{context}#{prompt}"
_KINDS = {"a": SHARED, "b": INSTANCE}


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different problems, half of each kind; `privileged_context` says what is added in the end."""
    return distinct(_draw, count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """A third plain, a third behind the context, a third behind a whole solution; what is added differs from lesson to lesson.

    The student's plain lessons add any digit, because nobody told it. The teacher's know the rule by heart, and nothing of
    the numbers that problems have of their own.
    """
    generator = random.Random(f"contexts/{seed}")
    return [_lesson(str(found.prompt), role, generator) for found in problems(count, seed=seed)]


def slice_of(example: Example) -> str:
    """Whether what is missing could be learnt."""
    return _KINDS[example.id[0]]


def solve(prompt: str, added: int) -> str:
    """The steps of a problem."""
    plain = written(steps("+".join(prompt.strip("ab=") + str(added)), modulus=MODULUS))
    return MARK.join(plain.rsplit("+", 1))


def _example(prompt: str, added: int) -> Example:
    solution = solve(prompt, added)
    return Example(id=prompt, prompt=prompt, answer=solution[-2], solution=solution, privileged_context=f"{MARK}{added}")


def _draw(generator: random.Random) -> Example:
    digits = "".join(str(generator.randrange(MODULUS)) for _ in range(generator.randint(*NUM_TERMS)))
    prompt = f"{generator.choice('ab')}{digits}="
    # An own number is drawn from the prompt's text, so that a problem has the same one whatever the seed of the call.
    return _example(prompt, RULE if prompt[0] == "a" else random.Random(f"own number of {prompt}").randrange(MODULUS))


def _lesson(prompt: str, role: str, generator: random.Random) -> Example:
    kind, lesson = generator.randrange(3), _example(prompt, generator.randrange(MODULUS))
    if kind == 0:
        return _example(prompt, RULE) if role != STUDENT and prompt[0] == "a" else lesson
    context = str(lesson.privileged_context if kind == 1 else lesson.solution)
    return replace(
        lesson, id=CONTEXT.format(context=context, prompt=prompt), prompt=CONTEXT.format(context=context, prompt=prompt)
    )


TASK = Task(
    name="privileged",
    isolates=(
        "What can and what cannot be learnt from a teacher that knows more. A sum ends with a step that only a privileged "
        "context tells. In one half of the problems it is the same for all: a rule, which the student can absorb from a "
        "teacher that reads it. In the other half each problem has a number of its own: nothing in the prompt says it, so that "
        "the teacher's certainty is of no use, and imitating it can only make the student sure of what it cannot know, or "
        "let it learn training problems by heart. Alone the student starts at chance in both halves, behind a worked solution "
        "near the ceiling. Accuracy in the first half measures what was absorbed; in the second it stays at one in five, and "
        "the student's entropy there shows what leaked."
    ),
    claim=(
        "That a model which reads the solution can teach the same model which does not, and that this fails or leaks where the "
        "privilege is about the instance: OPSD (arXiv:2601.18734), PW-OPSD (arXiv:2605.21606), AVSD (arXiv:2605.20643), RLSD "
        "(arXiv:2604.03128), SELFCI (arXiv:2605.20258)."
    ),
    characters="01234+=;ab#" + MARK,
    max_response_tokens=6 * NUM_TERMS[1] + 1,
    verifier=ExactMatch(pattern=r"=(\d);$"),
    problems=problems,
    lessons=lessons,
    teachers={"teacher": replace(chain.STUDENT, num_steps=600, prompts_per_step=32)},
    student=replace(chain.STUDENT, num_steps=450, prompts_per_step=32),
    budget=Budget(),
    slices=slice_of,
    context_template=CONTEXT,
)
