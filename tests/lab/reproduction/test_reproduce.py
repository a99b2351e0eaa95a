"""The order of the work, with a runner that knows the ends of all curves."""

import json
import re

import pytest
from tests.lab.reproduction.conftest import Runner

from tutelage.errors import CheckpointError, ConfigError
from tutelage.lab import tasks
from tutelage.lab.reproduction import picture
from tutelage.lab.reproduction.claim import Claim
from tutelage.lab.reproduction.jobs import VALIDATION_SEED, Job
from tutelage.lab.reproduction.page import PARTS
from tutelage.lab.reproduction.reproduce import Reproduction, reproduce
from tutelage.lab.reproduction.results import Results
from tutelage.lab.reproduction.rows import FULL, GRIDS, MOST_SEEDS, QUICK, Scale, Table
from tutelage.lab.reproduction.table import table

VOPD = Claim(method="vopd", task="chain", statement="Lower variance.", source="2605.07865")
UNKNOWN = Claim(method="telepathy", task="chain", statement="No words are needed.", source="0000.00000")
RATES = GRIDS["score function"]
ALONE = Scale(all_baselines=False)


def better(job: Job) -> float:
    """vopd is always 0.2 better; the highest learning rate is best on the validation seed."""
    if job.seed == VALIDATION_SEED:
        return 0.5 + 100 * job.learning_rate
    return 0.4 + 0.01 * job.seed + (0.2 if job.method == "vopd" else 0.0) + 0.001 * (job.seed % 2)


def asked(folder, runner: Runner, **more) -> Reproduction:
    settings = {"claims": (VOPD,), "folder": folder, "scale": ALONE, "work_off": runner, **more}
    return Reproduction(**settings)


def test_rates_first_then_rows_and_nothing_twice(tmp_path):
    runner, said = Runner(better), list[str]()
    (row,) = reproduce(asked(tmp_path, runner), say=said.append)
    grid, runs = runner.asked[: len(RATES)], runner.asked[len(RATES) :]
    assert [(job.method, job.seed) for job in grid] == [("opd", VALIDATION_SEED)] * len(RATES)
    assert sorted(job.learning_rate for job in grid) == sorted(RATES)
    assert {(job.method, job.seed) for job in runs} == {(name, seed) for name in ("vopd", "opd") for seed in range(3)}
    assert {job.learning_rate for job in runs} == {max(RATES)}
    assert row.verdict is not None
    assert (row.verdict.word, row.verdict.difference) == ("confirmed", pytest.approx(0.2))
    assert row.rates == (max(RATES), max(RATES))
    assert any("6 runs for 3 seeds" in line for line in said)
    again = Runner(better)
    assert reproduce(asked(tmp_path, again)) == [row]
    assert again.asked == []


def test_teachers_are_made_once_for_all_seeds_and_before_the_students(tmp_path):
    runner = Runner(better)
    reproduce(asked(tmp_path, runner))
    rows = runner.models[2:]
    assert rows[0] == ("chain", "teacher", 0)
    assert rows[1:] == [("chain", "student", seed) for seed in range(3)]


def test_an_undecided_row_gets_more_seeds(tmp_path):
    runner = Runner(lambda job: 0.4 + 0.1 * ((job.seed + (job.method == "vopd")) % 2))
    (row,) = reproduce(asked(tmp_path, runner))
    assert row.seeds == tuple(range(MOST_SEEDS))
    assert row.verdict is not None
    assert row.verdict.word == "not confirmed"


def test_the_lowest_of_equally_good_rates_is_taken(tmp_path):
    runner = Runner(lambda job: 0.5)
    reproduce(asked(tmp_path, runner, more_seeds=3))
    assert {job.learning_rate for job in runner.asked if job.seed != VALIDATION_SEED} == {min(RATES)}


def test_a_task_may_ask_for_lower_rates_than_the_others_and_the_page_says_so(tmp_path):
    found, scale = Table(Results(tmp_path)), tasks.get("long").learning_rate_scale
    assert scale < 1.0
    for kind, grid in GRIDS.items():
        assert [job.learning_rate for job in found.grid("long", kind)] == pytest.approx([scale * rate for rate in grid])
    slower = Claim(method="vopd", task="long", statement="Lower variance.", source="2605.07865")
    reproduce(asked(tmp_path, Runner(better), claims=(slower,)))
    assert f"on `long` {scale:g} times these" in PARTS["rates"](Table(Results(tmp_path), ALONE))


def test_a_failed_run_is_kept_shown_and_run_again_only_when_asked(tmp_path):
    broken = Runner(lambda job: "NumericsError: not finite" if job.method == "vopd" else better(job))
    (row,) = reproduce(asked(tmp_path, broken))
    assert (row.state, row.note) == ("failed", "NumericsError: not finite")
    assert "NumericsError: not finite" in table([row])
    waiting, mended = Runner(better), Runner(better)
    reproduce(asked(tmp_path, waiting))
    assert waiting.asked == []
    (row,) = reproduce(asked(tmp_path, mended, retry=True))
    assert [job.method for job in mended.asked] == ["vopd"] * 3
    assert row.state == "measured"


def test_a_method_outside_the_registry_is_skipped_with_a_line(tmp_path):
    runner, said = Runner(better), list[str]()
    (row,) = reproduce(asked(tmp_path, runner, claims=(UNKNOWN,)), say=said.append)
    assert runner.asked == []
    assert row.state == "waiting"
    assert said == ["skipped: telepathy on chain: 'telepathy' is not in the registry of recipes"]


def test_a_knob_that_does_not_fit_fails_its_row_and_no_other(tmp_path):
    wrong = Claim(method="tropd", task="chain", statement="", source="", knobs={"kk": 3})
    failed, fine = reproduce(asked(tmp_path, Runner(better), claims=(wrong, VOPD)))
    assert failed.state == "failed"
    assert "no knob 'kk'" in failed.note
    assert fine.state == "measured"


def test_the_full_table_writes_a_summary_by_method(tmp_path):
    reproduce(asked(tmp_path, Runner(better), scale=FULL))
    found = json.loads((tmp_path / "summary.json").read_text())
    (row,) = found["vopd"]
    assert (row["task"], row["metric"], row["baseline"], row["verdict"]) == ("chain", "accuracy", "opd", "confirmed")
    assert row["difference"] == pytest.approx(row["ours"] - row["baseline_value"], abs=2e-4)
    assert row["interval"][0] <= row["difference"] <= row["interval"][1]


def test_shared_baselines_run_where_the_registry_has_them(tmp_path):
    runner = Runner(better)
    reproduce(asked(tmp_path, runner, scale=FULL))
    assert {job.method for job in runner.asked} >= {"vopd", "opd", "gkd"}


def test_quick_runs_take_the_first_of_the_grid_and_are_other_runs(tmp_path):
    runner = Runner(better)
    reproduce(asked(tmp_path, runner, scale=QUICK, seeds=1, more_seeds=1))
    assert {(job.seed, job.learning_rate) for job in runner.asked} == {(0, RATES[0])}
    assert all(job.budget.num_steps <= (QUICK.num_steps or 0) for job in runner.asked)
    assert Table(Results(tmp_path), FULL).row(VOPD).state == "missing"


def test_a_damaged_result_is_named(tmp_path):
    reproduce(asked(tmp_path, Runner(better)))
    path = next(Results(tmp_path).files())
    path.write_text('{"job": 3}')
    with pytest.raises(CheckpointError, match=re.escape(path.name)):
        Table(Results(tmp_path), ALONE).row(VOPD)


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"seeds": MOST_SEEDS + 1}, {"more_seeds": MOST_SEEDS + 1}, {"jobs": 0}])
def test_sizes_are_checked(wrong):
    with pytest.raises(ConfigError, match="A reproduction needs"):
        Reproduction(**wrong)


@pytest.mark.parametrize("part", PARTS)
def test_the_page_builds_without_results(part, tmp_path):
    assert PARTS[part](Table(Results(tmp_path)))


def test_the_page_shows_what_was_measured(tmp_path):
    reproduce(asked(tmp_path, Runner(better), scale=FULL))
    found = Table(Results(tmp_path))
    row = next(line for line in PARTS["rows"](found).splitlines() if "`vopd` | `chain`" in line)
    assert "**confirmed**, 3 seeds" in row
    assert "`tutelage reproduce --method vopd --task chain`" in row
    assert "+20.0 [" in row
    assert f"| {max(RATES):g} |" in PARTS["rates"](found)
    curves = PARTS["curves"](found)
    assert curves.count("<polyline") >= 3
    assert "`vopd` | 61." in curves
    assert "1 confirmed" in PARTS["count"](found)


def test_the_page_says_where_the_students_of_all_seeds_begin(tmp_path):
    reproduce(asked(tmp_path, Runner(better, begins_at=lambda job: 0.1 * (job.seed + 1))))
    curves = PARTS["curves"](Table(Results(tmp_path), ALONE))
    assert "Accuracy before training, by seed: 10%, 20%, 30%." in curves
    assert "| before training | 20.0% |" in curves


def test_a_picture_puts_names_into_text_only():
    drawn = picture.draw({"<b>": [(0.0, 0.0), (10.0, 1.0)]}, title='"x"')
    assert "<b>" not in drawn
    assert "&lt;b&gt;" in drawn
