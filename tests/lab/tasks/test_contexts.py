"""The tasks `feedback` and `privileged`: what models learn to read in front of a prompt, and what verifiers say."""

import re
from collections import Counter

from tutelage.lab.tasks import feedback, privileged
from tutelage.types import Example

STEP = re.compile(r"\d[-+*]\d=\d;")


def test_the_verifier_tells_the_step_that_should_stand_where_the_first_wrong_one_does(judge):
    for problem in feedback.problems(30, seed=0):
        right = STEP.findall(str(problem.solution))
        for place in range(len(right)):
            wrong = [
                *right[:place],
                re.sub(r"\d;$", lambda old: f"{(int(old[0][0]) + 1) % 5};", right[place]),
                *right[place + 1 :],
            ]
            (verdict,) = judge(feedback.TASK, [(problem, "".join(wrong))])
            assert (verdict.reward, verdict.correct, verdict.feedback) == (0.0, False, right[place])


def test_a_response_that_goes_on_or_stops_early_is_wrong_too(judge):
    problem = Example(id="4+3*3=", prompt="4+3*3=", solution="4+3=2;2*3=1;")
    more, less, right = judge(
        feedback.TASK, [(problem, "4+3=2;2*3=1;1+1=2;"), (problem, "4+3=2;"), (problem, str(problem.solution))]
    )
    assert (more.correct, more.feedback) == (False, problem.solution)
    assert (less.correct, less.feedback) == (False, "2*3=1;")
    assert (right.correct, right.reward, right.feedback) == (True, 1.0, None)


def test_what_stands_in_a_context_is_what_the_response_says():
    kinds = Counter[str]()
    for lesson in feedback.lessons("student", 900, seed=0):
        context = re.fullmatch(r"#(.*)#.*", str(lesson.prompt))
        if context is None:
            kinds["plain"] += 1
            continue
        assert context[1] in str(lesson.solution)
        kinds["whole" if context[1] == lesson.solution else "step"] += 1
    assert len(kinds) == 3
    assert min(kinds.values()) > 200


def test_at_most_one_result_of_a_lesson_is_not_arithmetic_and_the_context_has_it():
    for lesson in feedback.lessons("student", 300, seed=0):
        false = [step for step in STEP.findall(str(lesson.solution)) if eval(step[:3]) % 5 != int(step[4])]
        assert len(false) <= 1
        assert all(step in str(lesson.prompt) for step in false)


def test_a_privileged_solution_is_the_sum_of_the_digits_and_of_what_the_context_adds():
    for problem in privileged.problems(300, seed=0):
        digits = [int(digit) for digit in re.findall(r"\d", str(problem.prompt))]
        assert int(str(problem.answer)) == (sum(digits) + int(str(problem.privileged_context)[1:])) % 5


def test_the_rule_is_one_for_all_and_own_numbers_are_of_every_kind():
    added = {privileged.SHARED: Counter[str](), privileged.INSTANCE: Counter[str]()}
    for problem in privileged.problems(2000, seed=0):
        added[privileged.slice_of(problem)][str(problem.privileged_context)] += 1
    assert set(added[privileged.SHARED]) == {f"&{privileged.RULE}"}
    assert len(added[privileged.INSTANCE]) == 5
    assert all(abs(count - 200) < 5 * 200**0.5 for count in added[privileged.INSTANCE].values())


def test_a_problem_has_the_same_own_number_in_every_draw():
    first, second = ({p.id: p.privileged_context for p in privileged.problems(2000, seed=seed)} for seed in (0, 1))
    shared = first.keys() & second.keys()
    assert len(shared) > 100
    assert {name: first[name] for name in shared} == {name: second[name] for name in shared}


def test_only_the_teacher_knows_the_rule_by_heart():
    def added(role: str, kind: str) -> Counter[str]:
        return Counter(
            str(lesson.solution)[-4] for lesson in privileged.lessons(role, 3000, seed=0) if str(lesson.prompt).startswith(kind)
        )

    assert set(added("teacher", "a")) == {str(privileged.RULE)}
    for role, kind in (("teacher", "b"), ("student", "a"), ("student", "b")):
        counts = added(role, kind)
        assert len(counts) == 5
        assert max(counts.values()) < 2 * counts.total() / 5


def test_lessons_behind_a_context_follow_it():
    for lesson in privileged.lessons("student", 300, seed=0):
        found = re.fullmatch(r"#(.*)#([ab]\d+=)", str(lesson.prompt))
        if found is not None:
            assert str(lesson.solution).endswith(found[1]) or str(lesson.solution)[-5:-3] == found[1]
