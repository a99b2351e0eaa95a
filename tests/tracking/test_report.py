import base64
import errno
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies

from tutelage.errors import CheckpointError
from tutelage.tracking import RunFolder, Tracker, registry
from tutelage.tracking.report import figures, headline, write_report
from tutelage.tracking.report.markup import element, embedded_json, text
from tutelage.tracking.report.run import Series, load
from tutelage.tracking.rollout_table import write_table
from tutelage.tracking.wording import harmless

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=\'alert(1)\'>&amp;\u2028\u202e"\x00'
ACCURACY = "eval/greedy_accuracy_fraction"
KL = "signal/reverse_kl_nats"


def small_run(path: Path, events: list[tuple[int, str, dict, dict]], config: dict | None = None) -> RunFolder:
    folder = RunFolder.create(path, config=config or {}, environment={})
    tracker = Tracker(folder)
    for step, kind, metrics, intervals in events:
        tracker.log(step, metrics, kind=kind, intervals=intervals)
    tracker.close()
    return folder


# ------------------------------------------------------------------------------------------------------- untrusted text
def test_hostile_text_stays_text_wherever_it_comes_from(tmp_path: Path, record, report):
    config = {"recipe": {"name": HOSTILE, "teacher": {"model": HOSTILE}}, HOSTILE: HOSTILE}
    folder = small_run(tmp_path / "<b>run", [(1, "train", {KL: 0.5, "term/<script>/loss_nats": 0.5}, {})], config)
    hostile = record(
        [HOSTILE, "<b>", "'"],
        prompt=HOSTILE,
        example_id=HOSTILE,
        answer=HOSTILE,
        feedback=HOSTILE,
        context=HOSTILE,
        authors=["student", HOSTILE, "student"],
        reverse_kl_nats=(1.0, 2.0, 3.0),
    )
    write_table(folder.rollout_file(1), [hostile])
    page = report(folder.path)
    assert page.tags["script"] == 3  # the figures, plotly, and the page's own
    assert not {"img", "b", "iframe", "object", "link", "form"} & {tag for tag in page.tags if tag != "b"}
    assert [tag for tag, name, value in page.attributes if name.startswith("on") or "javascript:" in value] == []
    assert page.text.count("<script>alert") >= 7
    assert "\\u2028\\u202e" in page.text
    assert not {"\u2028", "\u202e", "\x00"} & set(page.text)


@given(strategies.text())
def test_any_text_is_read_back_as_the_same_text(read_page, written: str):
    page = read_page(element("p", text("b", written), title=written))
    assert page.tags == {"p": 1, "b": 1}
    assert page.text == harmless(written)
    assert page.attributes == [("p", "title", harmless(written))]


@given(strategies.dictionaries(strategies.text(), strategies.text()))
def test_any_data_is_read_back_as_the_same_data(read_page, content: dict[str, str]):
    page = read_page(f'<script type="application/json">{embedded_json(content)}</script><p>after</p>')
    assert json.loads(page.scripts[0]) == content
    assert page.text == "after"


def test_data_within_the_page_cannot_end_its_element():
    content = {"name": HOSTILE, "values": [1.5, float("nan"), float("inf")], "<!--": "<script"}
    embedded = embedded_json(content)
    assert not set("<>&\u2028") & set(embedded)
    assert json.loads(embedded) == {"name": HOSTILE, "values": [1.5, None, None], "<!--": "<script"}


def test_a_plot_shows_a_name_and_does_not_interpret_it(tmp_path: Path, report):
    folder = small_run(tmp_path / "<a href='javascript:x'>run", [(1, "train", {KL: 0.5}, {})])
    names = [trace["name"] for figure in report(folder.path).figures.values() for trace in figure["data"] if trace.get("name")]
    assert names
    assert all("<" not in name for name in names)


def test_the_page_lets_nothing_run_but_its_own_scripts_and_fetches_nothing(finished_run: Path, report):
    page = report(finished_run)
    (policy,) = (value for tag, name, value in page.attributes if tag == "meta" and name == "content" and "script-src" in value)
    code = page.scripts[1:]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in code]
    assert policy.startswith("default-src 'none'")
    assert policy.split("script-src ")[1].split() == [f"'sha256-{digest}'" for digest in digests]
    assert [name for _, name, value in page.attributes if name in ("src", "href") or "://" in value] == []
    assert page.tags["link"] == 0
    assert sum("plotly.js v" in script[:200] for script in page.scripts) == 1


# --------------------------------------------------------------------------------------------------------- what it says
@pytest.mark.parametrize(
    ("before", "after", "name", "told"),
    [
        ((0.5, (0.45, 0.55)), (0.7, (0.65, 0.75)), ACCURACY, "+20.0 points, better"),
        ((0.7, (0.65, 0.75)), (0.5, (0.45, 0.55)), ACCURACY, "\N{MINUS SIGN}20.0 points, worse"),
        ((0.5, (0.45, 0.55)), (0.56, (0.5, 0.6)), ACCURACY, "+6.0 points, the intervals overlap"),
        ((1.5, (1.4, 1.6)), (0.75, (0.7, 0.8)), "eval/reverse_kl_nats", "\N{MINUS SIGN}0.750 nats, better"),
        ((1.5, None), (0.75, None), "eval/reverse_kl_nats", "\N{MINUS SIGN}0.750 nats, without an interval"),
        ((10.0, (9.0, 11.0)), (30.0, (29.0, 31.0)), "eval/mean_length_tokens", "+20.0 tokens"),
    ],
)
def test_a_card_tells_before_and_after_and_whether_the_difference_is_sure(tmp_path: Path, before, after, name, told):
    ends = [
        (step, "eval", {name: value}, {name: interval} if interval else {})
        for step, (value, interval) in ((0, before), (100, after))
    ]
    card = headline.cards([load(small_run(tmp_path / "run", ends).path)])
    verdict = card.split("verdict")[1].split("</p>")[0].split(">")[1]
    assert verdict.lstrip("\N{UPWARDS ARROW}\N{DOWNWARDS ARROW} ") == told
    assert ("bad" in card) == ("worse" in told)


def test_ends_that_are_not_the_runs_own_are_named_by_their_step(tmp_path: Path):
    events = [(step, "eval", {ACCURACY: 0.5}, {}) for step in (25, 50)] + [(60, "train", {KL: 0.5}, {})]
    card = headline.cards([load(small_run(tmp_path / "run", events).path)])
    assert ">step 25<" in card
    assert ">step 50<" in card
    assert ">before<" not in card


def test_pass_at_one_is_not_told_twice(tmp_path: Path, report):
    def run(name: str, passed: float) -> Path:
        metrics = {"eval/avg_at_k_fraction": 0.5, "eval/pass_at_k_fraction": passed}
        return small_run(tmp_path / name, [(0, "eval", metrics, {})]).path

    assert "pass@k" not in report(run("one", 0.5)).text
    assert "pass@k" in report(run("many", 0.75)).text


def test_a_report_says_which_numbers_are_held_out(tmp_path: Path):
    events = [(step, "eval", {ACCURACY: 0.5}, {}) for step in (0, 1)] + [(1, "train", {KL: 0.5}, {})]
    card = headline.cards([load(small_run(tmp_path / "run", events).path)])
    assert "On held-out prompts where they were evaluated; the others" in card


@pytest.mark.parametrize(
    ("teacher", "told"),
    [
        ({"kind": "self", "update": {"kind": "average"}}, "the student itself (average)"),
        ({"kind": "self"}, "the student itself"),
        ({"kind": "model", "model": "/somewhere/models/big-teacher"}, "big-teacher"),
    ],
)
def test_the_facts_name_the_teacher(tmp_path: Path, report, teacher, told):
    folder = small_run(tmp_path / "run", [(1, "train", {KL: 0.5}, {})], {"recipe": {"teacher": teacher}})
    head = report(folder.path).text.split("Result")[0]
    assert told in head
    assert "somewhere" not in head


def test_cards_without_an_evaluation_compare_the_first_with_the_last_tenth_of_the_steps(tmp_path: Path):
    values = [(step, "train", {KL: 2.0 if step <= 10 else 1.0}, {}) for step in range(1, 101)]
    card = headline.cards([load(small_run(tmp_path / "run", values).path)])
    assert "\N{MINUS SIGN}1.00 nats" in card
    assert "means of the first and of the last tenth" in card


def test_captions_say_what_is_good_in_the_words_of_the_registry(finished_run: Path, report):
    text = report(finished_run).text
    for name in (KL, ACCURACY, "rollout/truncated_fraction"):
        assert registry.METRICS[name].meaning in text
    assert text.count("Lower is better.") >= 4
    assert "Higher is better." in text
    assert "Neither direction is good in itself." in text


def test_a_report_of_a_finished_run_has_every_part(finished_run: Path, report):
    page = report(finished_run)
    for title in ("Result", "Curves", "Where they disagree", "Rollouts, token by token", "Configuration", "Environment"):
        assert title in page.text
    assert "recipe.terms.0.signal.kind" in page.text
    places = {value for tag, name, value in page.attributes if tag == "div" and name == "id"} - {"tip"}
    assert places == set(page.figures)


def test_a_run_that_has_logged_nothing_has_a_report(tmp_path: Path, report):
    page = report(RunFolder.create(tmp_path, config={"training": {"num_steps": 5}}, environment={}).path)
    assert "The run has logged nothing yet." in page.text
    assert "0 of 5 steps so far" in page.text
    assert page.figures == {}


def test_a_report_can_be_written_while_a_run_goes_on(tmp_path: Path, report):
    folder = small_run(tmp_path / "run", [(1, "train", {KL: 0.5}, {})], {"training": {"num_steps": 5}})
    with folder.metrics_file.open("a") as file:
        file.write('{"step": 2, "ti')
    assert "1 of 5 steps so far" in report(folder.path).text


def test_other_runs_are_drawn_into_the_same_plots_and_their_settings_compared(tmp_path: Path, make_run, report):
    first = make_run(tmp_path / "opd", steps=4)
    second = make_run(tmp_path / "sft", steps=4, best=0.55, recipe="sft")
    page = report(first.path, compare=[second.path])
    names = {trace.get("name") for trace in page.figures["result-0"]["data"]}
    assert {"opd", "sft"} <= names
    assert "How the runs differ" in page.text
    assert "recipe.name" in page.text


def test_runs_of_one_configuration_are_said_to_be_so(tmp_path: Path, make_run, report):
    first = make_run(tmp_path / "a", steps=1)
    second = make_run(tmp_path / "b", steps=1)
    assert "The runs have the same configuration." in report(first.path, compare=[second.path]).text


def test_another_run_without_tables_or_divergences_is_left_out_of_the_profile(tmp_path: Path, make_run, record, report):
    first = make_run(tmp_path / "a", steps=2)
    bare = small_run(tmp_path / "bare", [(1, "train", {KL: 0.5}, {})])
    silent = small_run(tmp_path / "silent", [(1, "train", {KL: 0.5}, {})])
    write_table(silent.rollout_file(1), [record(["a"])])
    page = report(first.path, compare=[bare.path, silent.path])
    assert {trace.get("name") for trace in page.figures["position"]["data"]} == {None, "step 1", "step 2"}


def test_runs_of_one_name_are_told_apart(tmp_path: Path, make_run, report):
    runs = [make_run(tmp_path / seed / "opd", steps=1) for seed in ("seed-0", "seed-1")]
    assert "seed-1/opd" in report(runs[0].path, compare=[runs[1].path]).text


# ---------------------------------------------------------------------------------------------------------------- curves
def test_a_short_curve_is_drawn_as_it_was_logged_and_gaps_are_left_out(tmp_path: Path, report):
    values = [0.5, float("nan"), 0.25]
    events = [(step, "train", {KL: value}, {}) for step, value in enumerate(values, start=1)]
    (trace,) = report(small_run(tmp_path / "run", events).path).figures["result-0"]["data"]
    assert (trace["x"], trace["y"]) == ([1, 3], [0.5, 0.25])


def test_an_evaluation_is_drawn_with_its_interval_as_a_band(tmp_path: Path, report):
    events = [(step, "eval", {ACCURACY: 0.5}, {ACCURACY: (0.4, 0.6)}) for step in (0, 50)]
    low, high, points = report(small_run(tmp_path / "run", events).path).figures["result-0"]["data"]
    assert (low["y"], high["y"], points["y"]) == ([0.4, 0.4], [0.6, 0.6], [0.5, 0.5])
    assert high["fill"] == "tonexty"


def test_a_single_evaluation_is_drawn_with_error_bars(tmp_path: Path, report):
    folder = small_run(tmp_path / "run", [(0, "eval", {ACCURACY: 0.5}, {ACCURACY: (0.25, 0.75)})])
    (points,) = report(folder.path).figures["result-0"]["data"]
    assert (points["error_y"]["array"], points["error_y"]["arrayminus"]) == ([0.25], [0.25])


def curve(values: list[float]) -> Series:
    return Series(steps=tuple(range(len(values))), values=tuple(values), intervals=(None,) * len(values))


def test_thinning_keeps_the_mean():
    thin = figures._thin(curve([float(i) for i in range(6000)]))
    assert len(thin.values) <= 600
    assert sum(thin.values) / len(thin.values) == pytest.approx((6000 - 1) / 2)


def test_noise_is_smoothed_away_and_a_schedule_keeps_its_corners():
    noisy = curve([0.5 + (-1) ** i * 0.1 for i in range(400)])
    warm_up = curve([min(i / 20, 1.0) for i in range(400)])
    assert max(abs(value - 0.5) for value in figures._smooth(noisy).values) < 0.02
    assert figures._smooth(warm_up) is warm_up


# ------------------------------------------------------------------------------------------------------ cost and failure
def test_reading_a_run_and_writing_its_report_imports_no_torch(finished_run: Path):
    code = (
        "import sys; import tutelage.tracking; from tutelage.tracking.report import write_report; "
        f"write_report({str(finished_run)!r}); print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_imports_neither_plotly_nor_pyarrow():
    code = "import sys, tutelage.tracking; print(sorted({'plotly', 'pyarrow', 'numpy', 'accelerate'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_report_takes_less_than_two_seconds(finished_run: Path):
    write_report(finished_run)
    began = time.process_time()
    write_report(finished_run)
    assert time.process_time() - began < 2.0


def test_a_full_disk_leaves_the_old_report_and_names_the_new(tmp_path: Path, make_run, monkeypatch: pytest.MonkeyPatch):
    folder = make_run(tmp_path / "run", steps=1)
    folder.report_file.write_text("old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CheckpointError, match=r"report\.html.*No space left.*Free some space"):
        write_report(folder.path)
    assert folder.report_file.read_text() == "old"


def test_a_report_of_something_else_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="not the folder of a run"):
        write_report(tmp_path)
