import re
from collections import Counter

import pytest

from tutelage.lab.tasks import HELD_OUT_SEED, TASKS, Task, seed_of
from tutelage.lab.tiny_models import END, make_tokenizer

EVERY = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())


@EVERY
def test_its_own_solutions_are_right_and_others_are_wrong(task: Task, judge):
    problems = task.problems(60, seed=5)
    texts = [str(problem.solution).replace(END, "") for problem in problems]  # a verifier reads no special tokens
    assert all(verdict.correct for verdict in judge(task, list(zip(problems, texts, strict=True))))
    assert not any(verdict.correct for verdict in judge(task, [(problem, "") for problem in problems]))
    cut = [(problem, text[:-1]) for problem, text in zip(problems, texts, strict=True)]
    assert not any(verdict.correct for verdict in judge(task, cut))


@EVERY
def test_everything_that_a_model_reads_or_writes_is_in_the_alphabet_and_fits(task: Task):
    tokenizer = make_tokenizer(task.characters)
    texts = [(example.prompt, str(example.solution)) for example in task.problems(100, seed=1)]
    for role in task.roles:
        texts += [(lesson.prompt, str(lesson.solution)) for lesson in task.lessons(role, 100, seed=1)]
    for prompt, solution in texts:
        assert tokenizer.unk_token_id not in tokenizer(prompt + solution).input_ids
        assert len(tokenizer(solution).input_ids) < task.max_response_tokens
    assert tokenizer.unk_token_id not in tokenizer(task.context_template.format(context="", prompt="")).input_ids


@EVERY
def test_splits_share_no_problem_and_a_larger_call_only_appends(task: Task):
    train, held_out = task.problems(400, seed=0), task.problems(60, seed=0, split="held_out")
    assert not {example.id for example in train} & {example.id for example in held_out}
    assert len({example.id for example in train}) == 400
    assert task.problems(50, seed=0) == train[:50]
    assert task.problems(50, seed=1) != train[:50]


@EVERY
def test_nobody_learns_held_out_problems_before(task: Task):
    held_out = {str(example.prompt) for example in task.problems(200, seed=0, split="held_out")}
    if task.name == "agent":
        pytest.skip("its prompts name a cell; what differs between its problems is the world, which no prompt shows")
    for role in task.roles:
        prompts = {str(lesson.prompt).rpartition("#")[2] for lesson in task.lessons(role, 1000, seed=2)}
        assert len(prompts) > 500
        assert not prompts & held_out


@EVERY
def test_lessons_are_as_many_as_asked_and_the_same_again(task: Task):
    for role in task.roles:
        lessons = task.lessons(role, 64, seed=3)
        assert len(lessons) == len({lesson.id for lesson in lessons}) == 64
        assert lessons == task.lessons(role, 64, seed=3)
        assert lessons != task.lessons(role, 64, seed=4)


@EVERY
def test_its_budget_can_be_drawn_and_its_classes_are_all_common(task: Task):
    assert len(task.problems(task.budget.num_prompts, seed=seed_of(task, "prompts", 0))) == task.budget.num_prompts
    held_out = task.problems(task.budget.num_held_out, seed=HELD_OUT_SEED, split="held_out")
    if task.slices is not None:
        shares = Counter(map(task.slices, held_out))
        assert len(shares) > 1
        assert min(shares.values()) > len(held_out) / 4


@EVERY
def test_what_it_isolates_and_which_claims_it_stands_for_is_said(task: Task):
    assert len(re.findall(r"arXiv:\d{4}\.\d{5}", task.claim)) >= 2
    assert task.isolates.endswith(".")
    assert task.claim.endswith(".")


@EVERY
def test_teachers_that_problems_name_are_there(task: Task):
    named = {example.teacher_id for example in task.problems(50, seed=0)} - {None}
    assert named <= set(task.teachers)
