"""Runs behind a score cache, against the same runs without one and against folders without any weights."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import Pair, make_pair

from tutelage import recipes
from tutelage.cli.main import main
from tutelage.data import DataSource
from tutelage.errors import ConfigError, TeacherError
from tutelage.objectives import ForwardKL, ReverseKL, Term, TopK
from tutelage.recipes.replay import lightning
from tutelage.rollouts.sources import DatasetRollouts, ReplayRollouts
from tutelage.run import api
from tutelage.run.assembly import assemble
from tutelage.run.config import RunConfig
from tutelage.run.precomputing import precompute
from tutelage.scores import ERROR_NATS, DiskStore, Entry, ScoreCache
from tutelage.teachers import Teacher
from tutelage.teachers.parts import ModelTeacher
from tutelage.tracking import events
from tutelage.types import StepBatch, TopKSignal

TOP = TopK(k=6, chosen_by="teacher")


@pytest.fixture
def pair(tmp_path) -> Pair:
    return make_pair(tmp_path / "pair")


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """How many rollouts each forward of a teacher in this process was asked about."""
    found, score = [], Teacher.score

    def counting(self, batch, *, only=None):
        found.append(len(batch.rollouts if only is None else only))
        return score(self, batch, only=only)

    monkeypatch.setattr(Teacher, "score", counting)
    return found


def fixed(pair: Pair, terms) -> recipes.Recipe:
    """Terms on the responses of the data set."""
    return recipes.Recipe(
        name="fixed", rollouts=DatasetRollouts(max_tokens=6), teacher=ModelTeacher(model=str(pair.teacher)), terms=terms
    )


def on(signal, **options) -> tuple[Term, ...]:
    return (Term(name="divergence", signal=signal, on=("student", "dataset"), **options),)


def config_of(pair: Pair, output, recipe, scores: ScoreCache | None) -> RunConfig:
    return pair.config("lightning", output, recipe=recipe, scores=scores, evaluation_data=None)


def without_weights(pair: Pair) -> None:
    (pair.teacher / "model.safetensors").rename(pair.teacher / "model.safetensors.away")


def weights(result) -> dict[str, torch.Tensor]:
    return load_file(result.student / "model.safetensors")


def same(one, other) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["sampled", "top_k", "hidden"])
def test_an_offline_run_without_any_weights_of_the_teacher_gives_the_bits_of_the_online_run(pair, tmp_path, asked, kind):
    recipe = {
        "sampled": lightning(str(pair.teacher), n=2, max_new_tokens=6),
        "top_k": fixed(pair, on(ForwardKL(support=TOP))),
        "hidden": fixed(pair, on(ReverseKL())),
    }[kind]
    scores = ScoreCache(folder=str(tmp_path / "scores"), hidden=kind == "hidden")
    online = api.train(config_of(pair, tmp_path / "online", recipe, replace(scores, folder=str(tmp_path / "others"))))
    found = precompute(config_of(pair, tmp_path / "unused", recipe, scores))
    assert found.responses == 8 * (2 if kind == "sampled" else 1)
    assert found.tokens > 0
    without_weights(pair)
    asked.clear()
    offline = api.train(config_of(pair, tmp_path / "offline", recipe, replace(scores, mode="offline")))
    assert asked == []
    assert same(online, offline)
    assert any("no teacher is loaded" in note for note in offline.notes)


@pytest.mark.parametrize("signal", [ForwardKL(support=TOP), ReverseKL(support=TOP)], ids=["forward", "reverse"])
def test_the_gradient_through_the_cache_is_that_of_direct_scoring_within_the_stated_error(pair, tmp_path, signal):
    """The gradient is linear in the teacher's probabilities (forward) or log-probabilities (reverse) of the kept events."""
    recipe, gradients = fixed(pair, on(signal)), []
    for scores in (None, ScoreCache(folder=str(tmp_path / "scores"), k=8)):
        run = assemble(config_of(pair, tmp_path / "run", recipe, scores))
        taught = run.teaching.score(StepBatch.of(run.writer.write(run.prompts[:4], step=0)))
        assert isinstance(taught.signals["teacher"], TopKSignal) == (scores is not None)
        parts = run.learner.gradient(taught.batch, taught.signals, step=0)
        gradients.append(torch.cat([part.flatten() for part in parts]))
    direct, through = gradients
    assert direct.norm() > 0.1
    assert not torch.equal(direct, through)
    assert (through - direct).norm() <= 4 * ERROR_NATS * direct.norm()


def test_a_second_run_with_the_same_folder_asks_for_nothing_and_ends_at_the_same_bits(pair, tmp_path, asked):
    recipe, scores = fixed(pair, on(ForwardKL(support=TOP))), ScoreCache(folder=str(tmp_path / "scores"))
    first = api.train(config_of(pair, tmp_path / "one", recipe, scores))
    assert sum(asked) == 8, "two epochs over eight responses"
    second = api.train(config_of(pair, tmp_path / "two", recipe, scores))
    assert sum(asked) == 8
    assert same(first, second)


def use(result) -> list[tuple[float, float]]:
    """What each step logged about the cache: the share that was found, and how many were asked."""
    steps = [event.metrics for event in events.read(result.folder / "metrics.jsonl") if event.kind == "train"]
    return [(metrics["cache/found_fraction"], metrics["cache/asked_responses"]) for metrics in steps]


def test_every_step_says_what_was_found_and_how_many_were_asked(pair, tmp_path):
    recipe, scores = fixed(pair, on(ForwardKL(support=TOP))), ScoreCache(folder=str(tmp_path / "scores"))
    cold = api.train(config_of(pair, tmp_path / "cold", recipe, scores))
    assert use(cold) == [(0.0, 4.0), (0.0, 4.0), (1.0, 0.0), (1.0, 0.0)], "two epochs over eight responses, four a step"
    warm = api.train(config_of(pair, tmp_path / "warm", recipe, scores))
    assert use(warm) == [(1.0, 0.0)] * 4
    shard = min((tmp_path / "scores").rglob("*.parquet"))
    shard.unlink()
    again = api.train(config_of(pair, tmp_path / "again", recipe, scores))
    assert use(again) == use(cold)[:1] + use(warm)[:3], "each shard holds one step's responses"
    without = api.train(config_of(pair, tmp_path / "without", recipe, None))
    assert "cache/" not in (without.folder / "metrics.jsonl").read_text()


def test_teachers_behind_one_cache_are_counted_together(pair, tmp_path):
    """Two teachers, one with half of the responses kept before: eight lookups a step, of which a quarter is found."""
    recipe = recipes.Recipe(
        name="two",
        rollouts=DatasetRollouts(max_tokens=6),
        teacher=ModelTeacher(model=str(pair.teacher)),
        references={"other": ModelTeacher(model=str(pair.student))},
        terms=(*on(ForwardKL(support=TOP)), replace(on(ForwardKL(support=TOP))[0], name="second", teacher="other")),
    )
    scores = ScoreCache(folder=str(tmp_path / "scores"))
    half = config_of(pair, tmp_path / "half", fixed(pair, on(ForwardKL(support=TOP))), scores)
    api.train(replace(half, data=DataSource(path=str(pair.data), limit=4)))
    whole = replace(pair.config("lightning", tmp_path / "two"), recipe=recipe, scores=scores, evaluation_data=None)
    found = use(api.train(whole))
    assert sum(asked for _, asked in found) == 8 + 4
    assert sum(share for share, _ in found) == (4 * 8 - 12) / 8


def test_other_weights_in_the_teachers_folder_never_hit(pair, tmp_path, asked):
    recipe, scores = fixed(pair, on(ForwardKL(support=TOP))), ScoreCache(folder=str(tmp_path / "scores"))
    first = api.train(config_of(pair, tmp_path / "one", recipe, scores))
    file = pair.teacher / "model.safetensors"
    shutil.copy(make_pair(tmp_path / "other").teacher / "model.safetensors", tmp_path / "same")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # a number's last byte: the same size and nearly the same teacher
    file.write_bytes(content)
    asked.clear()
    second = api.train(config_of(pair, tmp_path / "two", recipe, scores))
    assert sum(asked) == 8
    assert not same(first, second)
    shutil.copy(tmp_path / "same", file)
    asked.clear()
    api.train(config_of(pair, tmp_path / "three", recipe, scores))
    assert asked == [], "the first weights are back"
    without_weights(pair)
    with pytest.raises(TeacherError, match="2 different weights"):
        api.train(config_of(pair, tmp_path / "four", recipe, replace(scores, mode="offline")))


def test_offline_what_was_never_scored_stops_the_run_with_the_remedy(pair, tmp_path):
    recipe = lightning(str(pair.teacher), n=2, max_new_tokens=6)
    config = config_of(pair, tmp_path / "run", recipe, ScoreCache(folder=str(tmp_path / "scores"), mode="offline"))
    with pytest.raises(TeacherError, match="tutelage cache precompute"):
        api.train(config)
    precompute(config)
    without_weights(pair)
    with pytest.raises(TeacherError, match="tutelage cache precompute"):
        api.train(replace(config, seed=5, output=str(tmp_path / "another seed")))
    shutil.rmtree(tmp_path / "scores" / "teachers")
    with pytest.raises(TeacherError, match="holds no scores of"):
        api.train(replace(config, output=str(tmp_path / "another folder")))


def test_a_run_goes_on_where_scores_cannot_be_kept_and_precompute_says_why_it_does_not(pair, tmp_path, caplog, monkeypatch):
    recipe = fixed(pair, on(ForwardKL(support=TOP)))
    sound = api.train(config_of(pair, tmp_path / "sound", recipe, ScoreCache(folder=str(tmp_path / "scores"))))
    place = tmp_path / "read-only"
    place.write_text("a file, which no folder can be made in")
    for folder, remedy in ((str(place / "scores"), "is_dir"), (str(tmp_path / "full"), "fsync")):
        caplog.clear()
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            if remedy == "fsync":
                patch.setattr("tutelage.scores.shards.os.fsync", _no_space)
            else:
                patch.setattr("tutelage.scores.shards.list_shards", lambda folder: [])
                patch.setattr("tutelage.scores.disk.list_shards", lambda folder: [])
                patch.setattr("tutelage.scores.disk.list_names", lambda folder: [])
            config = config_of(pair, tmp_path / f"run-{remedy}", recipe, ScoreCache(folder=folder))
            assert same(api.train(config), sound)
            assert sum("Scores cannot be kept" in record.message for record in caplog.records) == 1
            with pytest.raises(Exception, match="Scores cannot be kept"):
                precompute(replace(config, output=str(tmp_path / "unused")))


def test_a_folder_in_which_nothing_can_be_merged_is_named_with_the_remedy(tmp_path, capsys, monkeypatch):
    for number in (1, 2):
        entry = Entry(teacher="t", request="sampled", tokens=1, sampled=np.zeros(1, dtype=np.float32))
        DiskStore(tmp_path, max_bytes=1 << 30).put({bytes([number] * 16): entry})
    monkeypatch.setattr("tutelage.scores.shards.os.fsync", _no_space)
    assert main(["cache", "merge", str(tmp_path)]) != 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "No space left" in line
    assert "All scores are where they were" in line


def _no_space(handle):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"terms": on(ReverseKL())}, r"whole distribution.*--scores\.hidden true"),
        ({"terms": on(ForwardKL(support=TopK(k=40)))}, r"--scores\.k 40"),
        ({"temperatures": recipes.opd().temperatures.__class__(teacher=2.0)}, "cannot be rescaled"),
        ({"rollouts": recipes.opd().rollouts, "mode": "offline"}, "known before the run"),
        ({"rollouts": ReplayRollouts(ahead=False), "mode": "offline"}, "known before the run"),
    ],
)
def test_what_the_cache_cannot_give_is_refused_before_anything_is_loaded(pair, tmp_path, change, match):
    change = dict(change)
    mode = change.pop("mode", "online")
    recipe = replace(fixed(pair, on(ForwardKL(support=TOP))), **change)
    config = config_of(pair, tmp_path / "run", recipe, ScoreCache(folder=str(tmp_path / "scores"), mode=mode))
    shutil.rmtree(pair.student)
    with pytest.raises(ConfigError, match=match):
        assemble(config)


def test_a_teacher_that_moves_with_the_student_is_never_kept(pair, tmp_path):
    config = pair.config("opsd", tmp_path / "run", scores=ScoreCache(folder=str(tmp_path / "scores"), hidden=True))
    with pytest.raises(ConfigError, match="moves with the student"):
        assemble(config)


def test_a_cache_that_no_term_would_use_is_refused(pair, tmp_path):
    config = pair.config("sft", tmp_path / "run", scores=ScoreCache(folder=str(tmp_path / "scores")))
    with pytest.raises(ConfigError, match="no teacher whose scores could be kept"):
        assemble(config)


def test_lightning_keeps_its_scores_on_disk_where_the_run_has_a_cache_and_evaluates_with_the_whole_teacher(pair, tmp_path):
    recipe = lightning(str(pair.teacher), n=2, max_new_tokens=6)
    in_memory = api.train(pair.config("lightning", tmp_path / "memory", recipe=recipe))
    on_disk = api.train(
        pair.config("lightning", tmp_path / "disk", recipe=recipe, scores=ScoreCache(folder=str(tmp_path / "s")))
    )
    assert same(in_memory, on_disk)
    assert list((tmp_path / "s" / "shards-1").glob("*.parquet"))
    last = max(on_disk.evaluations)
    assert on_disk.evaluations[last].metrics == in_memory.evaluations[last].metrics
    assert any("kl" in name for name in on_disk.evaluations[last].metrics)


def test_the_command_line_fills_counts_checks_and_trims(pair, tmp_path, capsys):
    import json

    folder = tmp_path / "scores"
    run = [
        "lightning", "--knobs.n", "2", "--knobs.max-new-tokens", "6", "--student", str(pair.student), "--teacher",
        str(pair.teacher), "--data", str(pair.data), "--scores.folder", str(folder), "--training.num-steps", "2",
        "--training.prompts-per-step", "4",
    ]  # fmt: skip
    assert main(["cache", "precompute", *run, "--json"]) == 0
    filled = json.loads(capsys.readouterr().out)
    assert filled["responses"] == 24
    assert main(["cache", "stats", str(folder), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert (counted["responses"], counted["tokens"]) == (24, filled["tokens"])
    assert [teacher["model"] for teacher in counted["teachers"]] == [str(pair.teacher)]
    assert main(["cache", "merge", str(folder), "--json"]) == 0
    merged = json.loads(capsys.readouterr().out)
    assert merged["shards_before"] == counted["shards"] > merged["shards"] == len(list(folder.rglob("*.parquet"))) == 1
    assert (merged["bytes_before"], merged["bytes"]) == (counted["bytes"], next(folder.rglob("*.parquet")).stat().st_size)
    without_weights(pair)
    assert main(["train", *run, "--scores.mode", "offline", "--output", str(tmp_path / "run")]) == 0
    assert main(["cache", "verify", str(folder)]) == 0
    bad = next(folder.rglob("*.parquet"))
    bad.write_bytes(b"x" + bad.read_bytes()[1:])
    capsys.readouterr()
    assert main(["cache", "verify", str(folder)]) == 1
    assert bad.name in capsys.readouterr().out
    assert main(["cache", "verify", str(folder), "--drop"]) == 0
    assert main(["cache", "prune", str(folder), "--max-gib", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bytes"] == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["statz", "."], "did you mean 'stats'"),
        (["stats"], "takes one folder"),
        (["stats", "nowhere"], "is no score cache"),
        (["prune", "{folder}"], "--max-gib"),
        (["stats", "{folder}", "--drop"], "belongs to tutelage cache verify"),
        (["stats", "{folder}", "--max-gib", "1"], "belongs to tutelage cache prune"),
        (["precompute", "gkd"], "--scores.folder"),
        (["precompute", "opd", "--scores.folder", "x", "--teacher", "y"], "known before the run"),
    ],
)
def test_wrong_input_is_answered_in_one_line_with_the_remedy(given, said, tmp_path, capsys):
    (tmp_path / "shards-1").mkdir()
    assert main(["cache", *(part.format(folder=tmp_path) for part in given)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
