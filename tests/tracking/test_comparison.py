"""Runs side by side: what is paired, what differs, and what cannot be compared."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.tracking.conftest import plain_record, synthetic_run

from tutelage.errors import CheckpointError, ConfigError, DataError
from tutelage.tracking.comparison import compare, describe, first_difference, paired_difference
from tutelage.tracking.comparison.page import write_comparison
from tutelage.tracking.comparison.text import MARK
from tutelage.tracking.evaluation_table import read_values, write_values
from tutelage.tracking.rollout_table import write_table

ACCURACY, KL = "eval/greedy_accuracy_fraction", "eval/reverse_kl_nats"
IDS = [f"row-{number}" for number in range(80)]


def right(every: int) -> dict[str, tuple[float, float]]:
    """Right on all examples but each so manieth."""
    return {example: (float(number % every != 0), 1.0) for number, example in enumerate(IDS)}


def responses(ending: str):
    return [
        plain_record(
            ["1", "+", "2", "=", digit, "<eos>"],
            token_ids=[1, 11, 2, 12, ord(digit), 13],
            step=300,
            group=group,
            prompt=f"{group}+2=",
            example_id=f"row-{group}",
            answer="3",
            correct=digit == "3",
            student_log_probs=[-0.5] * 6,
            teacher_log_probs=[-0.25] * 6,
            reverse_kl_nats=[0.125] * 6,
        )
        for group, digit in enumerate(["3", ending, "3"])
    ]


def test_a_mean_over_shared_examples_weighs_as_told():
    first = {"a": (1.0, 3.0), "b": (0.0, 1.0), "gone": (1.0, 9.0)}
    second = {"a": (0.5, 1.0), "b": (1.0, 1.0), "new": (0.0, 9.0)}
    found = paired_difference(first, second)
    assert (found.first, found.second, found.num_shared) == (0.75, 0.75, 2)
    assert found.difference == 0.0


def test_what_makes_examples_hard_for_both_does_not_widen_the_interval():
    hard = np.random.default_rng(0).normal(size=60)
    first = {str(place): (float(value), 1.0) for place, value in enumerate(hard)}
    second = {example: (value + 0.1, weight) for example, (value, weight) in first.items()}
    found = paired_difference(first, second)
    assert found.interval == pytest.approx((0.1, 0.1))
    assert found.clear
    assert not paired_difference(first, first).clear


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    draw = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        values = draw.normal(size=(40, 2)) + draw.normal(size=(40, 1)) + [0.0, 0.5]
        sides = [{str(place): (float(value), 1.0) for place, value in enumerate(column)} for column in values.T]
        low, high = paired_difference(*sides, seed=trial).interval
        covered += low <= 0.5 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_runs_without_a_common_example_cannot_be_paired():
    with pytest.raises(DataError, match="no common example"):
        paired_difference({"a": (1.0, 1.0)}, {"b": (1.0, 1.0)})


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 5, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [], None), ([], [4], 0)],
)
def test_the_first_difference_is_where_the_responses_part(first, second, place):
    assert first_difference(first, second) == place
    assert first_difference(second, first) == place


def test_a_table_of_an_evaluation_survives_being_written(tmp_path):
    values = {ACCURACY: right(4), KL: {"row-1": (0.25, 17.0)}}
    write_values(tmp_path / "step-000000.parquet", values)
    assert read_values(tmp_path / "step-000000.parquet") == values
    write_values(tmp_path / "empty.parquet", {})
    assert read_values(tmp_path / "empty.parquet") == {}
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(CheckpointError, match=r"torn\.parquet"):
        read_values(tmp_path / "torn.parquet")


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    runs = [synthetic_run(tmp_path / "opd"), synthetic_run(tmp_path / "tip", best=0.9, seed=1, recipe="tip")]
    for run, every, ending in zip(runs, (4, 8), ("4", "3"), strict=True):
        write_values(run.evaluation_file(300), {ACCURACY: right(every)})
        write_table(run.evaluation_rollout_file(300), responses(ending))
    return [run.path for run in runs]


def test_the_last_evaluations_are_paired_by_example(pair):
    found = compare(pair)
    (accuracy,) = [each for each in found.findings if each.metric.name == ACCURACY]
    first, second = accuracy.sides
    assert first is not None
    assert second is not None
    assert first.paired is None
    assert second.paired is not None
    assert second.paired.difference == pytest.approx(0.125)
    assert second.paired.num_shared == len(IDS)
    assert found.steps == (300, 300)
    assert found.notes == ()


def test_prompts_with_different_verdicts_come_first(pair):
    found = compare(pair).prompts
    assert [each.example_id for each in found] == ["row-1", "row-0", "row-2"]
    assert [each.differs_at for each in found] == [(None, 4), (None, None), (None, None)]
    told = describe(compare(pair))
    assert f"1+2={MARK}3<eos>" in told
    assert "at token 5: student -0.500, teacher -0.250, reverse KL 0.125 nats" in told
    assert "(+12.5 points [" in told


def test_a_comparison_is_plain_values(pair):
    found = json.loads(json.dumps(compare(pair).as_json(), allow_nan=False))
    assert [run["name"] for run in found["runs"]] == ["opd", "tip"]
    assert found["metrics"][ACCURACY][1]["difference"] == pytest.approx(0.125)
    assert found["prompts"][0]["responses"][1]["differs_at"] == 4
    assert found["runs"][0]["curves"][KL]["steps"][-1] == 300


class _Marked(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.marked, self.sections = 0, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.marked += "differs" in (found.get("class") or "").split()
        if tag == "section":
            self.sections.append(found.get("id") or "")


def test_the_page_frames_the_first_token_that_differs_in_both_responses(pair, tmp_path):
    reader = _Marked()
    reader.feed(write_comparison(compare(pair), tmp_path / "page.html").read_text())
    assert reader.marked == 2
    assert reader.sections == [f"section-{name}" for name in ("result", "paired", "curves", "tokens", "differences")]


def test_what_models_wrote_stays_text(pair, tmp_path):
    evil = [
        plain_record(
            ["<script>alert(1)</script>"], step=300, group=0, prompt="<b>", example_id="row-0", answer="<i>", correct=False
        )
    ]
    for path in pair:
        write_table(path / "evaluations" / "rollouts" / "step-000300.parquet", evil)
    page = write_comparison(compare(pair), tmp_path / "page.html").read_text()
    assert "<script>alert" not in page


def test_runs_of_before_are_compared_without_intervals_and_a_line_says_so(tmp_path):
    old, new = synthetic_run(tmp_path / "old"), synthetic_run(tmp_path / "new")
    write_values(new.evaluation_file(300), {ACCURACY: right(4)})
    found = compare([old.path, new.path])
    assert all(side is None or side.paired is None for each in found.findings for side in each.sides)
    assert found.prompts == ()
    assert any("old kept no results by example" in note for note in found.notes)
    assert any("new wrote down no held-out responses" in note for note in found.notes)


def test_other_held_out_examples_are_counted(pair):
    values = {ACCURACY: dict(list(right(8).items())[:10])}
    write_values(pair[1] / "evaluations" / "step-000300.parquet", values)
    found = compare(pair)
    assert any("shares 10 held-out examples" in note for note in found.notes)


def test_a_resumed_run_drops_the_evaluations_that_it_makes_again(pair):
    folder = compare(pair).runs[0].folder
    folder.drop_tables_after(299)
    assert folder.evaluation_files() == {}
    assert folder.evaluation_rollout_files() == {}


def test_one_run_or_no_run_is_refused(pair, tmp_path):
    with pytest.raises(ConfigError, match="at least two runs"):
        compare(pair[:1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="not the folder of a run"):
        compare([pair[0], tmp_path / "empty"])
