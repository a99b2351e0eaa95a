from tutelage.lab.tasks.agent import CELLS, MAX_TURNS, NOTHING, NUM_LOOKUPS, TASK, lessons, problems, world
from tutelage.lab.tiny_models import END
from tutelage.types import Example

WORLD = Example(id="x", prompt="c=", extra={"cells": {"c": "3f", "f": "4k", "k": "4."}})


def test_the_dialogue_of_the_documentation():
    turns = ["?c", "3?f", "2?k"]
    assert [world(WORLD, turns[:number]) for number in (1, 2, 3)] == ["3f", "4k", "4."]
    assert world(WORLD, [*turns, "1!"]) is None


def test_a_solution_is_what_the_world_and_its_right_turns_say_together():
    for problem in problems(100, seed=0):
        pieces = str(problem.solution).split(END)
        said, turns = pieces[0], [pieces[0]]
        for piece in pieces[1:]:
            reply = world(problem, turns)
            assert reply is not None
            assert piece.startswith(reply)
            turns.append(piece.removeprefix(reply))
            said += END + piece
        assert said == problem.solution
        assert world(problem, turns) is None
        assert NUM_LOOKUPS[0] < len(turns) <= NUM_LOOKUPS[1] + 1 < MAX_TURNS


def test_the_answer_is_the_sum_of_the_cells_that_are_linked():
    for problem in problems(100, seed=0):
        cell, total = str(problem.prompt)[0], 0
        while cell != ".":
            held = problem.extra["cells"][cell]
            total, cell = total + int(held[0]), held[1]
        assert problem.answer == str(total % 5)


def test_the_world_says_nothing_to_what_is_no_question_and_falls_silent_in_the_end():
    strange = next(cell for cell in CELLS if cell not in WORLD.extra["cells"])
    for turn in ("", "c", "?", "??c", f"?{strange}", "12?c"):
        assert world(WORLD, [turn]) == NOTHING
    assert world(WORLD, ["?c"] * MAX_TURNS) is None


def test_nobody_learns_to_speak_for_the_world():
    for lesson in lessons("student", 300, seed=0):
        said = str(lesson.prompt).partition("=")[2].split(END)[:-1] if END in str(lesson.prompt) else []
        cell = str(lesson.prompt)[0]
        assert set(str(lesson.solution)) <= set("01234?!" + CELLS)
        last = str(lesson.prompt)[-2:] if said else f"{cell}="
        asked = str(lesson.solution).partition("?")[2]
        if asked:
            assert asked == (last[1] if said else cell)
        else:
            assert last.endswith(".")


def test_the_verifier_reads_the_last_answer(judge):
    problem = Example(id="x", prompt="c=", answer="6")
    verdicts = judge(TASK, [(problem, text) for text in ("?c3f3?f9k2?k4.6!", "6!", "?c3f3?f9k2?k4.5!", "?c3f6", "6!6")])
    assert [verdict.correct for verdict in verdicts] == [True, True, False, False, False]
