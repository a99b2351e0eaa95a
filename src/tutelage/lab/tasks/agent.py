"""A small world of linked cells: the student asks for one cell after another, adds up what they hold, and answers.

`c=` names the first cell. A dialogue is `?c` `3f` `3?f` `4k` `2?k` `4.` `1!`, the world's replies standing in every other
place: a cell holds a digit and names the next one, or a full stop. Before its next question the student writes the sum so
far, modulo five, and at the end the sum with `!`. The student ends each of its turns with its end token.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase

from tutelage.lab.tasks import chain
from tutelage.lab.tasks.arithmetic import distinct
from tutelage.lab.tasks.base import Budget, Split, Task
from tutelage.lab.tiny_models import END
from tutelage.types import Example
from tutelage.verifiers import ExactMatch

MODULUS = 5
CELLS = ascii_lowercase[:16]
NUM_LOOKUPS = (2, 4)
"""Fewest and most cells of a chain."""
MAX_TURNS = 6
"""After so many turns the world is silent, whatever was asked."""
NOTHING = "-"
"""The world's reply to what is no question, or asks for a cell that it does not have."""
_QUESTION, _ANSWER = re.compile(r"\d?\?(\w)"), re.compile(r"\d!")


def world(example: Example, turns: Sequence[str]) -> str | None:
    """What the world says after the student's last turn.

    Args:
        example: Its column `cells` has what each cell holds.
        turns: Everything that the student has written, turn by turn.

    Returns:
        A cell's content, or None when the conversation is over: after an answer, or after too many turns.
    """
    if len(turns) >= MAX_TURNS or _ANSWER.fullmatch(turns[-1]):
        return None
    asked = _QUESTION.fullmatch(turns[-1])
    return NOTHING if asked is None else dict(example.extra["cells"]).get(asked[1], NOTHING)


def problems(count: int, *, seed: int, split: Split = "train") -> list[Example]:
    """Different worlds, each with its whole dialogue as `solution`, the end of each turn but the last written out."""
    return distinct(_draw, count, seed=seed, split=split)


def lessons(role: str, count: int, *, seed: int) -> list[Example]:
    """One lesson is one turn: what was said before it stands in the prompt, so that nobody learns to speak for the world."""
    found = problems(count, seed=seed)  # more than enough: each has several turns
    turns = [lesson for problem in found for lesson in _turn_by_turn(problem)]
    return random.Random(f"turns/{seed}").sample(turns, count)


def dialogue(start: str, cells: Mapping[str, str]) -> list[tuple[str, str]]:
    """The student's right turns, each with the world's reply; the last reply is empty."""
    found, total, written = list[tuple[str, str]](), 0, ""
    while start != ".":
        reply = cells[start]
        found.append((f"{written}?{start}", reply))
        total, start = (total + int(reply[0])) % MODULUS, reply[1]
        written = str(total)
    return [*found, (f"{written}!", "")]


def _draw(generator: random.Random) -> Example:
    chain_of = generator.sample(CELLS, generator.randint(*NUM_LOOKUPS))
    cells = {cell: f"{generator.randrange(MODULUS)}{after}" for cell, after in zip(chain_of, [*chain_of[1:], "."], strict=True)}
    said = dialogue(chain_of[0], cells)
    text = "".join(f"{turn}{END}{reply}" for turn, reply in said).removesuffix(END)
    return Example(
        id="".join(cell + held for cell, held in cells.items()),
        prompt=f"{chain_of[0]}=",
        answer=said[-1][0][0],
        solution=text,
        extra={"cells": cells},
    )


def _turn_by_turn(problem: Example) -> list[Example]:
    before, found = str(problem.prompt), list[Example]()
    for place, (turn, reply) in enumerate(dialogue(before[0], problem.extra["cells"])):
        found.append(replace(problem, id=f"{problem.id}/{place}", prompt=before, solution=turn, extra={}))
        before += f"{turn}{END}{reply}"
    return found


TASK = Task(
    name="agent",
    environment=f"{__name__}:world",
    isolates=(
        "Acting in several turns. What the student has to know is not in the prompt: it asks a world for one cell after "
        "another, each reply names the next, and a sum is carried along. A wrong question or a wrong sum early on spoils all "
        "later turns, and the world's replies lie in between: they are not the student's tokens, must never be trained on, and "
        "differ with what was asked, so that nobody else's text can stand for the student's own. Steps are turns, and errors "
        "can be told apart by turn."
    ),
    claim=(
        "That distillation of agents gains from weighing or cutting by step, because errors pile up from turn to turn: SOD "
        "(arXiv:2605.07725), TCOD (arXiv:2604.24005)."
    ),
    characters="01234" + CELLS + "=?!." + NOTHING,
    max_response_tokens=40,
    verifier=ExactMatch(pattern=r"(\d)!$"),
    problems=problems,
    lessons=lessons,
    teachers={"teacher": replace(chain.TEACHER, num_steps=200)},
    student=replace(chain.STUDENT, num_steps=300, prompts_per_step=32, accuracy=0.4),
    budget=Budget(),
)
