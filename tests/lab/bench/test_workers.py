"""Both benches end to end at tiny sizes, and workers that die."""

from dataclasses import replace

import pytest

from tutelage.errors import NumericsError, TutelageError
from tutelage.lab.bench import compare
from tutelage.lab.bench.processes import Worker, peer
from tutelage.lab.bench.settings import SIGNALS, HeadBench, StepBench, as_json
from tutelage.lab.bench.tables import table

HEAD = HeadBench(vocab=64, rows=8, width=8, teacher_width=16, pairs=1)
STEP = StepBench(vocab=64, student=(16, 1), teacher=(16, 1), batch=2, accumulation=2, prompt=4, new=6, ragged=0.5, pairs=2)
needs_peer = pytest.mark.skipif(peer() is None, reason="TRL is not installed")


def quiet(line: str) -> None:
    pass


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(compare, "peer", lambda: None)


@pytest.mark.usefixtures("alone")
def test_the_head_runs_alone_on_every_signal():
    result = compare.head(replace(HEAD, vocab=128, signals=SIGNALS, pairs=2), say=quiet)
    ours = result["readings"]["ours"]
    assert list(result["readings"]) == ["ours"]
    assert {name: len(found) for name, found in ours.items()} == dict.fromkeys(SIGNALS, 2)
    assert len(result["products"]) == 2
    losses = {name: found[0]["loss"] for name, found in ours.items()}
    assert losses["reverse_kl"] == losses["reverse_kl_with_statistics"] > 0.0
    total = losses["reverse_kl"] + losses["forward_kl"] + losses["score_function"]
    assert losses["three_terms"] == pytest.approx(total, rel=1e-4)
    assert "pip install" in table(result)


@pytest.mark.usefixtures("alone")
def test_steps_run_alone_with_the_lengths_that_were_planned():
    result = compare.step(STEP, say=quiet)
    found = result["readings"]["ours"]
    assert [reading["tokens"] for reading in found] == [sum(STEP.lengths())] * 2
    assert all(set(reading["phases"]) == {"sampling", "judging", "scoring", "update"} for reading in found)
    assert all(0.0 < reading["useful_share"] <= 1.0 for reading in found)
    assert "sampling" in table(result)


def test_growth_runs_each_number_of_rows_in_a_process_of_its_own():
    result = compare.growth(HEAD, rows=(8, 24), say=quiet)
    assert [part["rows"] for part in result["growth"]] == [8, 24]
    assert "24" in table(result).splitlines()[2]


@needs_peer
def test_both_heads_agree_and_are_compared():
    result = compare.head(replace(HEAD, signals=("reverse_kl", "jensen_shannon", "forward_kl")), say=quiet)
    ours, theirs = result["readings"]["ours"], result["readings"]["peer"]
    for signal in ours:
        for name in ("loss", "hidden_gradient_norm", "weight_gradient_norm"):
            assert ours[signal][0][name] == pytest.approx(theirs[signal][0][name], rel=1e-3)


@needs_peer
def test_both_trainers_write_the_same_lengths():
    result = compare.step(replace(STEP, microbatch_tokens=16), say=quiet)  # too few for two responses of ours at once
    ours, theirs = result["readings"]["ours"], result["readings"]["peer"]
    assert [reading["tokens"] for reading in ours] == [reading["tokens"] for reading in theirs]
    assert theirs[0]["useful_share"] < ours[0]["useful_share"]
    assert "/ ours" in table(result)


def test_sides_that_differ_are_not_compared():
    figures = {"loss": 1.0, "hidden_gradient_norm": 1.0, "weight_gradient_norm": 1.0}
    with pytest.raises(NumericsError, match=r"weight_gradient_norm is 1\.0 and the peer's 1\.01"):
        compare._require_agreement(HEAD, {"reverse_kl": [figures]}, {"reverse_kl": [figures | {"weight_gradient_norm": 1.01}]})


def test_a_worker_that_cannot_build_says_why():
    job = {"bench": "step", "side": "ours", "settings": as_json(STEP), "folder": "nowhere"}
    with pytest.raises(TutelageError, match=r"(?s)'ours'.*ended with code 1.*nowhere"), Worker("ours", job):
        pass


def test_a_worker_that_dies_at_work_gives_its_last_lines():
    with Worker("ours", {"bench": "head", "side": "ours", "settings": as_json(HEAD)}) as worker:
        with pytest.raises(TutelageError, match="KeyError: 'nothing'"):
            worker.ask({"signal": "nothing"})
        with pytest.raises(TutelageError, match="ended with code"):
            worker.ask({"signal": "reverse_kl"})


def test_a_worker_that_is_killed_says_by_what_and_none_is_left_behind():
    with Worker("ours", {"bench": "head", "side": "ours", "settings": as_json(HEAD)}) as worker:
        worker._process.kill()
        with pytest.raises(TutelageError, match="signal 9"):
            worker.ask({"signal": "reverse_kl"})
    assert worker._process.returncode == -9


def test_an_error_on_our_side_ends_the_worker():
    with (
        pytest.raises(RuntimeError, match="ours"),
        Worker("ours", {"bench": "head", "side": "ours", "settings": as_json(HEAD)}) as worker,
    ):
        raise RuntimeError("ours")
    assert worker._process.returncode == 0
