"""Runs whose stages work at the same time: the same bits as in turns, however long anything takes and wherever they stop."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import RECIPES, Pair, make_pair

from tutelage import recipes
from tutelage.errors import ConfigError, Interrupted, NumericsError, RolloutError, TeacherError, TutelageError, VerifierError
from tutelage.evaluation import EvaluationSettings
from tutelage.models import LanguageModel, Lora, ModelSource
from tutelage.objectives import LogRatio, NoRatio, ScoreFunction
from tutelage.rollouts import CachedSampler
from tutelage.run import api
from tutelage.run.assembly import assemble, prompt_order
from tutelage.run.asynchrony import fit_ahead
from tutelage.run.config import RunConfig
from tutelage.teachers import Teacher
from tutelage.tracking import RunFolder, events
from tutelage.training import checkpoint
from tutelage.training.learner import Learner
from tutelage.training.settings import AsynchronousSettings, CheckpointSettings, TrainingSettings
from tutelage.training.workers import Worker
from tutelage.types import StepBatch
from tutelage.verifiers.exact import ExactMatchVerifier

STEPS = 6
TIME_LIMIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def config(pair: Pair, output: Path, *, staleness: int, recipe: str = "opd", **changes: Any) -> RunConfig:
    base = pair.config(
        recipe,
        output,
        evaluation_data=None,
        training=TrainingSettings(num_steps=STEPS, prompts_per_step=4),
        asynchronous=AsynchronousSettings(staleness=staleness),
    )
    return replace(base, **changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def logged(folder: Path) -> list[tuple[int, str, dict[str, float]]]:
    """Everything that was logged except what a clock decides."""
    return [
        (event.step, event.kind, {name: value for name, value in event.metrics.items() if not of_clock(name)})
        for event in events.read(folder / "metrics.jsonl")
    ]


def of_clock(name: str) -> bool:
    return "second" in name or name == "pipeline/queue_steps"


def delayed(monkeypatch: pytest.MonkeyPatch, owner: type, verb: str, seconds: Callable[[int], float]) -> None:
    """Have a method take longer, by its number of calls so far."""
    whole, calls = getattr(owner, verb), iter(range(10_000))

    def slow(self, *inputs, **options):
        time.sleep(seconds(next(calls)))
        return whole(self, *inputs, **options)

    monkeypatch.setattr(owner, verb, slow)


def failing(monkeypatch: pytest.MonkeyPatch, owner: type, verb: str, *, call: int, error: BaseException) -> None:
    """Have a method raise at its call number `call`, counted from 0."""
    whole, calls = getattr(owner, verb), iter(range(10_000))

    def broken(self, *inputs, **options):
        if next(calls) == call:
            raise error
        return whole(self, *inputs, **options)

    monkeypatch.setattr(owner, verb, broken)


def stopping_after(steps: int):
    @contextmanager
    def stop() -> Iterator[object]:
        asked = iter(range(1000))
        yield lambda: next(asked) >= steps

    return stop


def stage_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tutelage-")]


def one_after_another(made: RunConfig) -> dict[str, torch.Tensor]:
    """The student after a run in one thread, by the rule alone: keep every policy, and write each step with its own."""
    staleness, recipe = made.asynchronous.staleness, fit_ahead(made.recipe, made.asynchronous)[0]
    in_turn = replace(made, recipe=recipe, asynchronous=AsynchronousSettings(staleness=0))
    run, writer = assemble(in_turn), assemble(in_turn)
    prompts, policies = prompt_order(made, run), [values(run.student)]
    for step in range(made.training.num_steps):
        with torch.no_grad():
            for name, parameter in writer.student.model.named_parameters():
                parameter.copy_(policies[max(step - staleness, 0)][name])
        rollouts = writer.writer.write(prompts(step), step=step)
        batch = StepBatch.of(rollouts, run.verifier.judge(rollouts), seed=made.seed, step=step)
        taught = run.teaching.score(batch)
        run.learner.update(taught.batch, taught.signals, step=step)
        policies.append(values(run.student))
    return policies[-1]


@pytest.mark.parametrize("staleness", [0, 1, 2, 4])
@pytest.mark.parametrize("recipe", ["opd", "gkd"])
def test_a_run_has_the_bits_of_the_rule_carried_out_in_one_thread(pair, tmp_path, recipe, staleness):
    made = config(pair, tmp_path / "run", staleness=staleness, recipe=recipe)
    expected, found = one_after_another(made), weights(api.train(made).student)
    assert set(found) <= set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_run_in_turns_starts_no_threads_and_has_no_waits(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(Worker, "__init__", lambda self, name: pytest.fail(f"{name} was started"))
    result = api.train(config(pair, tmp_path / "run", staleness=0))
    assert not any(name.startswith("pipeline/") for _, _, metrics in logged(result.folder) for name in metrics)


@pytest.mark.parametrize("recipe", ["opd", "gkd", "mopd", "sod"])
def test_delays_change_nothing(pair, tmp_path, monkeypatch, recipe):
    plain = api.train(config(pair, tmp_path / "plain", staleness=2, recipe=recipe))
    delayed(monkeypatch, CachedSampler, "sample", lambda call: 0.03 * (call % 3 == 0))
    slow_writer = api.train(config(pair, tmp_path / "writer", staleness=2, recipe=recipe))
    delayed(monkeypatch, Teacher, "score", lambda call: 0.05 * (call % 2))
    delayed(monkeypatch, Learner, "update", lambda call: 0.04 * (call % 3 == 1))
    slow_everything = api.train(config(pair, tmp_path / "everything", staleness=2, recipe=recipe))
    assert same(plain.student, slow_writer.student)
    assert same(plain.student, slow_everything.student)
    assert logged(plain.folder) == logged(slow_writer.folder) == logged(slow_everything.folder)


@pytest.mark.parametrize("staleness", [1, 2, 4])
def test_each_step_is_written_after_as_many_updates_as_its_number_less_the_staleness(pair, tmp_path, staleness):
    result = api.train(config(pair, tmp_path / "run", staleness=staleness))
    found = [metrics for _, kind, metrics in logged(result.folder) if kind == "train"]
    expected = [float(min(step, staleness)) for step in range(STEPS)]
    assert [metrics["rollout/staleness_mean_steps"] for metrics in found] == expected
    assert [metrics["rollout/staleness_max_steps"] for metrics in found] == expected


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4)])
def test_the_writer_has_the_weights_that_the_student_had_after_so_many_steps(pair, tmp_path, monkeypatch, lora):
    made = config(pair, tmp_path / "run", staleness=2, student=ModelSource(path=str(pair.student), lora=lora))
    assembled = assemble(made)
    assert assembled.ahead is not None
    trained, copied = list[dict[str, torch.Tensor]](), list[dict[str, torch.Tensor]]()
    update, sample = Learner.update, CachedSampler.sample

    def noted_update(self, *inputs, **options):
        if not trained:
            trained.append(values(self.student))
        found = update(self, *inputs, **options)
        trained.append(values(self.student))
        return found

    def noted_sample(self, *inputs, **options):
        copied.append(values(self._model))
        return sample(self, *inputs, **options)

    monkeypatch.setattr(Learner, "update", noted_update)
    monkeypatch.setattr(CachedSampler, "sample", noted_sample)
    api.train(made)
    assert len(copied) == STEPS
    for step, found in enumerate(copied):
        expected = trained[max(step - 2, 0)]
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert any(not torch.equal(trained[0][name], trained[-1][name]) for name in trained[0])


def values(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.model.named_parameters()}


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_has_the_same_bits_as_one_that_never_stopped(pair, tmp_path, monkeypatch, stop):
    whole = api.train(config(pair, tmp_path / "whole", staleness=2))
    monkeypatch.setattr(api, "stop_on_signals", stopping_after(stop))
    with pytest.raises(Interrupted, match=f"{stop} of {STEPS}"):
        api.train(config(pair, tmp_path / "parts", staleness=2))
    monkeypatch.undo()
    resumed = api.resume(tmp_path / "parts")
    assert same(resumed.student, whole.student)
    assert logged(tmp_path / "parts") == logged(whole.folder)


def test_a_run_resumed_from_an_ordinary_checkpoint_has_the_same_bits_too(pair, tmp_path):
    """Killed without a word: the newest checkpoint is older than the metrics."""
    whole = api.train(config(pair, tmp_path / "run", staleness=2, checkpoints=CheckpointSettings(every=4, keep=2)))
    expected, events_before = weights(whole.student), logged(whole.folder)
    last = checkpoint.newest(whole.folder / "checkpoints")
    assert last is not None
    assert last.step == STEPS
    (last.path / "manifest.json").unlink()
    found = weights(api.resume(whole.folder).student)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert logged(whole.folder) == events_before


def test_what_was_written_ahead_is_trained_on_and_not_written_again(pair, tmp_path, monkeypatch):
    written = list[int]()
    sample = CachedSampler.sample

    def counted(self, prompts, *inputs, **options):
        written.append(len(prompts))
        return sample(self, prompts, *inputs, **options)

    monkeypatch.setattr(CachedSampler, "sample", counted)
    with monkeypatch.context() as stopped:
        stopped.setattr(api, "stop_on_signals", stopping_after(3))
        with pytest.raises(Interrupted):
            api.train(config(pair, tmp_path / "run", staleness=2))
    saved = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    state = checkpoint.load(saved)
    assert [each["step"] for each in state["queue"]] == [3, 4, 5]
    assert [each["rollouts"][0]["policy_step"] for each in state["queue"]] == [1, 2, 3]
    api.resume(tmp_path / "run")
    assert written == [4 * 2] * STEPS  # four prompts with two responses each, and every step once


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_within_its_step_and_saves(pair, tmp_path, monkeypatch, number):
    whole = api.train(config(pair, tmp_path / "whole", staleness=2))
    update, calls = Learner.update, iter(range(1000))

    def interrupted(self, *inputs, **options):
        if next(calls) == 2:
            os.kill(os.getpid(), number)
        return update(self, *inputs, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "update", interrupted)
        with pytest.raises(Interrupted, match=f"3 of {STEPS}"):
            api.train(config(pair, tmp_path / "parts", staleness=2))
    assert stage_threads() == []
    assert same(api.resume(tmp_path / "parts").student, whole.student)


SLOW_COMMAND = """
import sys, time
from tutelage.cli.main import main
from tutelage.teachers import Teacher

score = Teacher.score

def slow(self, *inputs, **options):
    time.sleep(0.5)
    return score(self, *inputs, **options)

Teacher.score = slow
sys.exit(main())
"""
"""The command behind a teacher that takes so long that a signal finds the run in its middle."""


def ended_by(number: signal.Signals, command: list[str], run: Path) -> tuple[int, str]:
    """Exit code and messages of a run that got a signal once it had logged a step."""
    process = subprocess.Popen([sys.executable, "-c", SLOW_COMMAND, *command], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 2 * TIME_LIMIT_SECONDS
        while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_bytes().count(b"\n"):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIME_LIMIT_SECONDS)
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_signalled_saves_its_queue_and_is_resumed_to_the_bits_of_one_that_was_not(pair, tmp_path, number):
    """SIGINT too where the tests run in the background, whose children are born deaf to it: a run sets its own handler."""
    run, num_steps = tmp_path / "run", 12
    code, errors = ended_by(
        number,
        [
            *("train", "opd", "--student", str(pair.student), "--teacher", str(pair.teacher), "--data", str(pair.data)),
            *("--knobs.n", "2", "--knobs.max_new_tokens", "6", "--training.num-steps", str(num_steps)),
            *("--training.prompts-per-step", "4", "--asynchronous.staleness", "2", "--optimiser.learning-rate", "1e-2"),
            *("--device", "cpu", "--output", str(run)),
        ],
        run,
    )
    assert code == 5
    assert "Traceback" not in errors
    saved = checkpoint.newest(run / "checkpoints")
    assert saved is not None
    assert 0 < saved.step < num_steps - 2, "in the middle, with a full queue"
    waiting = checkpoint.load(saved)["queue"]
    assert [each["step"] for each in waiting] == [saved.step, saved.step + 1, saved.step + 2]
    assert [each["rollouts"][0]["policy_step"] for each in waiting] == [max(each["step"] - 2, 0) for each in waiting]
    undisturbed = api.train(replace(api.config_of(RunFolder.open_existing(run)), output=str(tmp_path / "whole")))
    assert same(api.resume(run).student, undisturbed.student)
    assert logged(run) == logged(undisturbed.folder)


_FAULTS = [
    pytest.param(CachedSampler, "sample", NumericsError("logits"), id="the writer fails"),
    pytest.param(CachedSampler, "sample", RolloutError("the server is gone"), id="the engine is gone"),
    pytest.param(ExactMatchVerifier, "judge", VerifierError("no verdict"), id="the verifier fails"),
    pytest.param(Teacher, "score", TeacherError("the teacher is gone"), id="the teacher fails"),
    pytest.param(Learner, "update", NumericsError("gradient"), id="the update fails"),
]


@pytest.mark.parametrize(("owner", "verb", "error"), _FAULTS)
def test_a_stage_that_fails_ends_the_run_with_its_message_after_what_went_before(
    pair, tmp_path, monkeypatch, owner: type, verb: str, error: TutelageError
):
    began, made = time.monotonic(), config(pair, tmp_path / "parts", staleness=2)
    with monkeypatch.context() as broken:
        failing(broken, owner, verb, call=3, error=error)
        with pytest.raises(type(error)) as found:
            api.train(made)
    assert found.value is error
    assert time.monotonic() - began < TIME_LIMIT_SECONDS
    assert stage_threads() == []
    saved = checkpoint.newest(tmp_path / "parts" / "checkpoints")
    assert saved is not None
    assert saved.step == 3  # the three steps before are trained, none of the three is lost
    whole = api.train(config(pair, tmp_path / "whole", staleness=2))
    resumed = api.resume(tmp_path / "parts")
    if owner is CachedSampler:  # the step that nobody wrote is written by the student as it is by then
        assert logged(resumed.folder)[:3] == logged(whole.folder)[:3]
    else:
        assert same(resumed.student, whole.student)


def test_a_mistake_in_a_stage_reaches_the_user_as_it_is(pair, tmp_path, monkeypatch):
    failing(monkeypatch, Teacher, "score", call=2, error=KeyError("a mistake"))
    began = time.monotonic()
    with pytest.raises(KeyError, match="a mistake"):
        api.train(config(pair, tmp_path / "run", staleness=4))
    assert time.monotonic() - began < TIME_LIMIT_SECONDS
    assert stage_threads() == []


def test_an_evaluation_has_the_teacher_and_the_verifier_for_itself(pair, tmp_path, monkeypatch):
    """Neither may be asked from two threads at once: user functions are not written for that."""
    busy, clashes = threading.Lock(), list[str]()

    def alone(owner: type, verb: str) -> None:
        whole = getattr(owner, verb)

        def guarded(self, *inputs, **options):
            if not busy.acquire(blocking=False):
                clashes.append(verb)
                return whole(self, *inputs, **options)
            try:
                time.sleep(0.01)
                return whole(self, *inputs, **options)
            finally:
                busy.release()

        monkeypatch.setattr(owner, verb, guarded)

    alone(Teacher, "score")
    alone(ExactMatchVerifier, "judge")
    every = EvaluationSettings(every=1, max_new_tokens=4)
    held_out = pair.config("opd", tmp_path).evaluation_data
    api.train(config(pair, tmp_path / "run", staleness=2, evaluation_data=held_out, evaluation=every))
    assert clashes == []


def test_evaluations_do_not_change_a_run(pair, tmp_path):
    held_out = pair.config("opd", tmp_path).evaluation_data
    every = EvaluationSettings(every=1, max_new_tokens=4)
    plain = api.train(config(pair, tmp_path / "plain", staleness=2))
    evaluated = api.train(config(pair, tmp_path / "evaluated", staleness=2, evaluation_data=held_out, evaluation=every))
    assert same(plain.student, evaluated.student)


def test_waits_and_the_queue_are_logged_and_make_up_the_time_of_a_step(pair, tmp_path):
    result = api.train(config(pair, tmp_path / "run", staleness=2))
    train = [event.metrics for event in events.read(result.folder / "metrics.jsonl") if event.kind == "train"]
    for metrics in train:
        parts = ("pipeline/rollout_seconds", "pipeline/teacher_seconds", "time/update_seconds")
        assert metrics["train/seconds_per_step"] == pytest.approx(sum(metrics[name] for name in parts))
        assert metrics["pipeline/update_seconds"] >= 0.0
        assert 0.0 <= metrics["pipeline/queue_steps"] <= 2.0


def test_stored_log_probabilities_are_those_of_whoever_wrote_so_the_gap_to_the_trainer_shows_the_staleness(pair, tmp_path):
    gaps = {
        staleness: [
            metrics["signal/sampler_gap_nats"]
            for _, _, metrics in logged(api.train(config(pair, tmp_path / str(staleness), staleness=staleness)).folder)
        ]
        for staleness in (0, 2)
    }
    assert max(gaps[0]) < 1e-5
    assert gaps[2][0] < 1e-5  # the first step is written by the student as it is
    assert min(gaps[2][1:]) > 1e-3


REFUSED = {
    "opsd": "follows the student",
    "sft": "writes or reads along",
    "tropd": "writes or reads along",
    "trb": "writes or reads along",
    "kat": "writes or reads along",
    "brts": "writes or reads along",
    "adwin": "controllers",
    "effopd": "controllers",
    "lightning": "how old a response is",
    "f_opd": "how old a response is",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_ahead_or_is_refused_before_a_model_is_loaded(pair, tmp_path, monkeypatch, name):
    made = config(pair, tmp_path / "run", staleness=1, recipe=name)
    if name in REFUSED:
        monkeypatch.setattr("tutelage.run.assembly.load", lambda *inputs, **options: pytest.fail("a model was loaded"))
        with pytest.raises(ConfigError, match=REFUSED[name]):
            api.train(made)
    else:
        assert logged(api.train(made).folder)[-1][2]["rollout/staleness_max_steps"] == 1.0


def test_a_score_function_without_a_ratio_is_pointed_out(pair, tmp_path):
    recipe = recipes.opd(str(pair.teacher), n=2, max_new_tokens=4)
    bare = replace(
        recipe,
        terms=tuple(
            replace(
                term, signal=replace(term.signal, ratio=NoRatio()) if isinstance(term.signal, ScoreFunction) else term.signal
            )
            for term in recipe.terms
        ),
    )
    quiet = assemble(config(pair, tmp_path, staleness=2)).report.notes
    assert not any("without importance weights" in note for note in quiet)  # the ratio is opd's default
    notes = assemble(replace(config(pair, tmp_path, staleness=2), recipe=bare)).report.notes
    assert any("without importance weights" in note and "2 steps" in note for note in notes)


def test_log_ratios_are_those_of_the_present_student_where_an_earlier_one_wrote_and_the_run_says_so(pair, tmp_path):
    in_turn, ahead = (assemble(config(pair, tmp_path, staleness=staleness)).report.notes for staleness in (0, 2))
    assert not any("relative_to" in note for note in in_turn)
    assert any("relative_to" in note for note in ahead)
    for staleness, origin in ((0, "behaviour"), (2, "student")):
        made = config(pair, tmp_path, staleness=staleness)
        (term,) = fit_ahead(made.recipe, made.asynchronous)[0].terms
        assert isinstance(term.signal, ScoreFunction)
        assert isinstance(term.signal.advantage, LogRatio)
        assert term.signal.advantage.relative_to == origin


def test_a_negative_staleness_is_refused():
    with pytest.raises(ConfigError, match="at least 0"):
        AsynchronousSettings(staleness=-1)
