"""Chains whose teacher writes each step result first: `1=4+7;3=1*3;` where the student writes `4+7=1;1*3=3;`."""

from dataclasses import replace

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import Step, steps
from tutelage.lab.tasks.base import STUDENT, Budget, Task
from tutelage.types import Example
from tutelage.verifiers import ExactMatch

VERIFIER = ExactMatch(pattern=r"\d(?==\d[-+*]\d;$)|(?<=\d[-+*]\d=)\d(?=;$)")
"""The value of the last step, in either style."""


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """The same problems and the same steps, in the style of the role."""
    found = chain.problems(count, seed=seed)
    return found if role == STUDENT else [replace(lesson, solution=result_first(str(lesson.prompt))) for lesson in found]


def result_first(prompt: str) -> str:
    """The steps of a problem in the teacher's style, for example `1=4+7;3=1*3;` for `4+7*3=`."""
    return "".join(map(_reversed, steps(prompt.removesuffix("="))))


def _reversed(step: Step) -> str:
    return f"{step.result}={step.value}{step.operator}{step.operand};"


TASK = Task(
    name="mismatch",
    isolates=(
        "Another style. Teacher and student solve the same problems by the same steps, but the teacher writes a step's result "
        "before its operands and has never seen it the other way round. Both are right for the verifier. At the start the "
        "student's text is improbable under the teacher from the second token on, the likeliest tokens of the two hardly "
        "overlap, and what the teacher says of the student's prefixes is no knowledge about the problem. Signals that see only "
        "the student's own samples are all penalty and no direction until the student happens to write in the teacher's style."
    ),
    claim=(
        "That distillation on the student's own text needs overlap to begin with, and that bounded trust, a blend of both "
        "models or the teacher's own text help where there is none: Revisiting OPD (arXiv:2603.25562), Rethinking OPD "
        "(arXiv:2604.13016), TRB (arXiv:2605.31159), TrOPD (arXiv:2606.01249), BRTS (arXiv:2605.09725)."
    ),
    characters=chain.CHARACTERS,
    max_response_tokens=chain.MAX_RESPONSE_TOKENS,
    verifier=VERIFIER,
    problems=chain.problems,
    lessons=lessons,
    teachers={"teacher": chain.TEACHER},
    student=chain.TASK.student,
    budget=Budget(),
)
