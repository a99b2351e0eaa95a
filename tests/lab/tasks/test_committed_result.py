"""The committed measurements show what each task says that it isolates."""

import json
from dataclasses import asdict
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from tutelage.lab.tasks import TASKS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def runs() -> dict[str, dict[str, Any]]:
    return {run["task"]: run for run in json.loads((ROOT / "benchmarks" / "results" / "tasks.json").read_text())["runs"]}


def greedy(runs: dict[str, dict[str, Any]], task: str, role: str, kind: str = "all") -> float:
    run = runs[task]
    return (run["distilled"] if role == "distilled" else run["accuracy"][role])["greedy"][kind]


def test_every_task_was_measured_with_its_budget(runs: dict[str, dict[str, Any]]):
    assert {name: run["budget"] for name, run in runs.items()} == {name: asdict(task.budget) for name, task in TASKS.items()}


def test_the_page_shows_every_task():
    spec = spec_from_file_location("measured", ROOT / "docs" / "hooks" / "measured.py")
    assert spec is not None
    assert spec.loader is not None
    hook = module_from_spec(spec)
    spec.loader.exec_module(hook)
    assert all(f"| `{name}` |" in hook.tasks() for name in TASKS)
    assert "@measured tasks\n" in (ROOT / "docs" / "tasks.md").read_text()


@pytest.mark.parametrize("task", ["chain", "mismatch", "long", "forks", "feedback", "format"])
def test_teachers_know_the_task_and_students_have_room(runs: dict[str, dict[str, Any]], task: str):
    assert greedy(runs, task, "teacher") >= 0.9
    assert 0.05 < greedy(runs, task, "student") < 0.7


@pytest.mark.parametrize("task", ["chain", "forks", "feedback"])
def test_plain_distillation_helps_where_nothing_is_wrong_with_the_teacher(runs: dict[str, dict[str, Any]], task: str):
    assert greedy(runs, task, "distilled") > greedy(runs, task, "student") + 0.1


def test_a_noisy_teacher_is_wrong_and_unsure_on_its_class_alone_and_the_student_follows_it(runs: dict[str, dict[str, Any]]):
    special = runs["noisy_teacher"]["special"]
    assert special["teacher_right_off"] > 0.9 > special["teacher_right_on"] + 0.4
    assert special["teacher_entropy_on_nats"] > special["teacher_entropy_off_nats"] + 1.0
    assert special["student_right_on"] > special["teacher_right_on"] + 0.2
    assert special["distilled_right_on"] < special["student_right_on"] - 0.1
    assert special["distilled_right_off"] > special["student_right_off"]


def test_mismatched_styles_hardly_overlap_at_the_start(runs: dict[str, dict[str, Any]]):
    assert runs["mismatch"]["special"]["student_probability_under_teacher"] < 0.3
    assert greedy(runs, "mismatch", "distilled") < greedy(runs, "mismatch", "student")


def test_the_longer_the_students_prefix_the_less_often_the_teacher_ends_it_well(runs: dict[str, dict[str, Any]]):
    special = runs["long"]["special"]
    assert special["after_0_tokens"] > 0.9
    assert special["after_222_tokens"] < special["after_37_tokens"] < special["after_0_tokens"]


def test_at_forks_the_teacher_is_open_and_the_student_knows_one_way(runs: dict[str, dict[str, Any]]):
    special = runs["forks"]["special"]
    assert special["entropy_at_forks_nats"] > special["entropy_elsewhere_nats"] + 0.5
    assert special["teacher_different_right_of_16"] > special["student_different_right_of_16"] + 3.0


def test_a_student_that_reads_feedback_or_a_peer_repairs_what_it_got_wrong(runs: dict[str, dict[str, Any]]):
    special = runs["feedback"]["special"]
    assert special["failed_then_with_peer"] > 0.5 > special["failed_then_with_feedback"], "feedback is about one step"
    assert special["first_wrong_step_repaired_with_feedback"] > 0.5


def test_privilege_helps_in_both_kinds_and_only_the_rule_is_known_by_heart(runs: dict[str, dict[str, Any]]):
    special = runs["privileged"]["special"]
    for kind in ("shared rule", "instance"):
        assert special[f"{kind}: solution"] > special[f"{kind}: alone"] + 0.3
    assert greedy(runs, "privileged", "teacher", "shared rule") > 0.9
    assert greedy(runs, "privileged", "teacher", "instance") < 0.4


def test_experts_know_their_own_domain_alone_and_one_of_them_is_not_enough(runs: dict[str, dict[str, Any]]):
    for own, other in (("five", "three"), ("three", "five")):
        assert greedy(runs, "two_domains", own, own) > 0.9
        assert greedy(runs, "two_domains", own, other) < 0.5
    taught = runs["two_domains"]["distilled"]["teacher"]
    other = "three" if taught == "five" else "five"
    assert greedy(runs, "two_domains", "distilled", taught) > greedy(runs, "two_domains", "student", taught)
    assert greedy(runs, "two_domains", "distilled", other) < greedy(runs, "two_domains", "student", other)


def test_a_part_of_the_students_right_values_is_lost_to_format(runs: dict[str, dict[str, Any]]):
    special = runs["format"]["special"]
    assert special["teacher_right_values_lost"] < 0.1
    assert special["student_right_values_lost"] > 0.3


def test_plain_distillation_restores_the_format_before_it_teaches_much_else(runs: dict[str, dict[str, Any]]):
    special = runs["format"]["special"]
    assert special["distilled_right_values_lost"] < 0.1
    assert greedy(runs, "format", "distilled") > greedy(runs, "format", "student") + 0.05


def test_the_agents_teacher_finds_its_way_and_the_student_sometimes(runs: dict[str, dict[str, Any]]):
    special = runs["agent"]["special"]
    assert special["teacher_accuracy"] > 0.8
    assert 0.1 < special["student_accuracy"] < 0.7
