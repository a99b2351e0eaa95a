"""Asynchronous runs whose student or teacher is served: whose weights wrote, and what is left when a server dies."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.pairs import Pair, make_pair
from tests.run.test_asynchronous import STEPS, config, delayed, logged, one_after_another, same, stage_threads, weights
from tests.serving.conftest import QUICK
from tests.serving.fake import FakeServer, Reply, breaks_off

from tutelage.errors import ServerError
from tutelage.evaluation import EvaluationSettings
from tutelage.models import LanguageModel, Lora, ModelSource, load
from tutelage.rollouts.sampler_parts import ServedStudent
from tutelage.rollouts.served_copy import ServedCopy
from tutelage.rollouts.sources import Sampling
from tutelage.rollouts.synced import SyncedSampler
from tutelage.run import api
from tutelage.run.assembly import assemble
from tutelage.run.config import RunConfig
from tutelage.teachers.parts import ServedTeacher
from tutelage.tracking import events
from tutelage.tracking.rollout_table import read_table
from tutelage.training import checkpoint
from tutelage.training.behaviour import BehaviourCopy
from tutelage.training.settings import CheckpointSettings, LoggingSettings

PROMPTS = [[1, 10, 1, 11], [2, 10, 2, 11], [3, 11]]
ADAPTER = Lora(rank=2, alpha=4)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def student_server(pair, start) -> FakeServer:
    return start(load(ModelSource(path=str(pair.student)), role="teacher"), developer=True)


@pytest.fixture
def teacher_server(pair, start) -> FakeServer:
    return start(load(ModelSource(path=str(pair.teacher)), role="teacher"))


def drawn_there(made: RunConfig, server: FakeServer) -> RunConfig:
    return replace(made, sampler=ServedStudent(url=server.url, patience=QUICK))


def taught_there(made: RunConfig, server: FakeServer) -> RunConfig:
    teacher = ServedTeacher(url=server.url, model=server.model.name, patience=QUICK)
    return replace(made, recipe=replace(made.recipe, teacher=teacher))


def own_log_probs(model: LanguageModel, prompt: list[int], ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids).unsqueeze(-1)).squeeze(-1)


def exchanges(server: FakeServer) -> int:
    return sum(path == "/collective_rpc" for path, _ in server.requests)


def completions(server: FakeServer) -> int:
    return sum(path == "/v1/completions" for path, _ in server.requests)


def move(model: LanguageModel, *, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn(parameter.shape, generator=draws))


def copies_of(pair: Pair, server: FakeServer, lora: Lora | None = None) -> tuple[LanguageModel, ServedCopy]:
    student = load(ModelSource(path=str(pair.student), lora=lora), role="student")
    part = ServedStudent(url=server.url, patience=QUICK)
    return student, ServedCopy(part, student, vocab=student.vocab_size, stop_token_ids=frozenset({17}))


def test_whoever_draws_from_a_shared_server_draws_with_his_own_weights_also_from_two_threads_at_once(pair, student_server):
    student, copy = copies_of(pair, student_server)
    other = student.clone_frozen()
    move(other, seed=1)
    models = [student, other]
    samplers = [SyncedSampler(copy, model) for model in models]

    def draw(call: int):
        return samplers[call % 2].sample(PROMPTS, Sampling(max_new_tokens=5), seed=call)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(draw, range(12)))
    for call, samples in enumerate(found):
        for prompt, sample, theirs in zip(PROMPTS, samples, draw(call), strict=True):
            assert torch.equal(sample.token_ids, theirs.token_ids), "who came before does not matter"
            truth = own_log_probs(models[call % 2], prompt, sample.token_ids.tolist())
            torch.testing.assert_close(sample.log_probs, truth, rtol=0, atol=1e-5)


def test_the_server_is_given_weights_only_where_it_has_others(pair, student_server):
    student, copy = copies_of(pair, student_server)
    samplers = [SyncedSampler(copy, student), SyncedSampler(copy, student.clone_frozen())]
    copy.figures()
    before = exchanges(student_server)
    for sampler, expected in zip([*samplers[:1] * 2, *samplers[1:] * 2, samplers[0]], (0, 0, 1, 1, 2), strict=True):
        sampler.sample(PROMPTS, Sampling(max_new_tokens=1), seed=0)
        assert exchanges(student_server) - before == expected
    assert samplers[0].figures()["serving/sync_gap_nats"] < 1e-5
    assert not samplers[1].figures(), "both tell of the one server"


@pytest.mark.parametrize("lora", [None, ADAPTER])
def test_a_copy_that_is_set_to_other_weights_is_handed_over_again(pair, student_server, lora):
    """No parameter of a copy is marked as trained; that it moved must be seen all the same."""
    student, copy = copies_of(pair, student_server, lora)
    behaviour = BehaviourCopy(student)
    sampler = SyncedSampler(copy, behaviour.model)
    draws = torch.Generator().manual_seed(0)
    answers = list[torch.Tensor]()
    for _ in range(2):
        behaviour.load(
            {name: 0.3 * torch.randn(value.shape, generator=draws) for name, value in student.trainable_state().items()}
        )
        for prompt, sample in zip(PROMPTS, sampler.sample(PROMPTS, Sampling(max_new_tokens=4), seed=0), strict=True):
            truth = own_log_probs(behaviour.model, prompt, sample.token_ids.tolist())
            torch.testing.assert_close(sample.log_probs, truth, rtol=0, atol=1e-5)
            answers.append(own_log_probs(behaviour.model, PROMPTS[0], [1, 2, 3]))
    assert float((answers[0] - answers[-1]).abs().mean()) > 0.05, "the two sets of weights can be told apart"


@pytest.mark.parametrize("lora", [None, ADAPTER])
def test_a_served_student_writes_each_step_as_old_as_the_staleness_says(pair, student_server, tmp_path, monkeypatch, lora):
    """Read from the run's folder: the stored log-probs are those of the checkpoint of `max(t - 1, 0)` steps, of no other.

    By the time the slow writer hands weights over the student has moved on, so the student's own would be found.
    """
    delayed(monkeypatch, SyncedSampler, "sample", lambda call: 0.4)
    made = config(
        pair,
        tmp_path / "run",
        staleness=1,
        student=ModelSource(path=str(pair.student), lora=lora),
        checkpoints=CheckpointSettings(every=1, keep=STEPS + 1),
        logging=LoggingSettings(rollouts_every=1),
    )
    result = api.train(drawn_there(made, student_server))
    students = [load(ModelSource(path=str(pair.student)), role="student")]
    for saved in checkpoint.whole(result.folder / "checkpoints"):
        students.append(load(ModelSource(path=str(saved.student)), role="student"))
    assert len(students) == STEPS + 1
    for step in range(STEPS):
        rows = read_table(result.folder / "rollouts" / f"step-{step + 1:06d}.parquet")
        assert len(rows) == 8  # four prompts with two responses each
        distances = [
            max(
                float((own_log_probs(model, row.prompt_ids, row.token_ids) - torch.tensor(row.behaviour_log_probs)).abs().max())
                for row in rows
            )
            for model in students
        ]
        assert distances[max(step - 1, 0)] < 1e-4
        first_update = 2  # the learning rate rises from 0, so the first step may move little
        assert min(distance for age, distance in enumerate(distances) if age > max(step, first_update)) > 1e-3
        if step > first_update:
            assert distances[step] > 1e-3, "the present student did not write"
    metrics = [event.metrics for event in events.read(result.folder / "metrics.jsonl") if event.kind == "train"]
    assert [each["rollout/staleness_max_steps"] for each in metrics] == [float(min(step, 1)) for step in range(STEPS)]
    assert max(each.get("serving/sync_gap_nats", 0.0) for each in metrics) < 1e-5
    assert any("serving/sync_seconds" in each for each in metrics)
    assert metrics[-1]["signal/sampler_gap_nats"] > 1e-3, "beside the KL it says how far the present student is from who wrote"


@pytest.mark.parametrize("staleness", [1, 2])
def test_a_run_with_a_served_student_has_the_bits_of_the_rule_carried_out_in_one_thread(
    pair, student_server, tmp_path, staleness
):
    made = drawn_there(config(pair, tmp_path / "run", staleness=staleness), student_server)
    expected, found = one_after_another(made), weights(api.train(made).student)
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_evaluations_on_the_same_server_change_nothing_and_cost_one_exchange_each(pair, student_server, tmp_path):
    made = drawn_there(config(pair, tmp_path / "plain", staleness=2), student_server)
    before = exchanges(student_server)
    plain = api.train(made)
    without = exchanges(student_server) - before
    every = EvaluationSettings(every=1, max_new_tokens=4)
    held_out = pair.config("opd", tmp_path).evaluation_data
    evaluated = api.train(replace(made, output=str(tmp_path / "evaluated"), evaluation_data=held_out, evaluation=every))
    assert same(plain.student, evaluated.student)
    with_evaluations = exchanges(student_server) - before - without
    assert with_evaluations == without + STEPS  # the one before the first step finds the student there
    here = api.evaluate(
        replace(made, student=ModelSource(path=str(evaluated.student)), evaluation_data=held_out, evaluation=every)
    )
    last = evaluated.evaluations[STEPS]
    assert last.metrics["eval/reverse_kl_nats"] == pytest.approx(here.metrics["eval/reverse_kl_nats"], abs=1e-6), (
        "the student of the last step was evaluated, not the one that wrote"
    )


def dies(server: FakeServer) -> Callable[[Reply], None]:
    """The reply is not sent, and no further one is."""

    def fault(reply: Reply) -> None:
        server.always = breaks_off(0.0)
        server.stop()
        reply.cut_at = 0.0

    return fault


def changes_its_weights(server: FakeServer, other: LanguageModel) -> Callable[[Reply], None]:
    """From the next request on another model answers."""

    def fault(reply: Reply) -> None:
        server.model = other

    return fault


@pytest.mark.parametrize("fault", ["dies", "answers with other weights"])
def test_a_served_teacher_that_fails_in_the_middle_of_an_asynchronous_run(
    pair, teacher_server, start, other_model, tmp_path: Path, fault: str
):
    """The steps that it taught are trained on, the one that it did not is not; resumed, the run ends where it would have."""
    made = taught_there(config(pair, tmp_path / "whole", staleness=2), teacher_server)
    assemble(made)
    setup = completions(teacher_server)
    whole = api.train(made)
    per_step, rest = divmod(completions(teacher_server) - 2 * setup, STEPS)
    assert rest == 0
    first, taught = teacher_server.model, 3
    replies = setup + taught * per_step
    if fault == "dies":
        teacher_server.faults.extend([None] * (replies + 1) + [dies(teacher_server)])  # with a part of the step answered
    else:
        teacher_server.faults.extend([None] * (replies - 1) + [changes_its_weights(teacher_server, other_model)])
    with pytest.raises(ServerError, match="no usable reply" if fault == "dies" else "not those that answered before"):
        api.train(replace(made, output=str(tmp_path / "parts")))
    assert stage_threads() == []
    saved = checkpoint.newest(tmp_path / "parts" / "checkpoints")
    assert saved is not None
    assert saved.step == taught
    assert logged(tmp_path / "parts") == logged(whole.folder)[:taught]
    assert [each["step"] for each in checkpoint.load(saved)["queue"]] == [3, 4, 5]
    if fault == "dies":
        start(first, port=int(teacher_server.url.rpartition(":")[2]))
    else:
        teacher_server.model = first
    resumed = api.resume(tmp_path / "parts")
    assert same(resumed.student, whole.student)
    assert logged(resumed.folder) == logged(whole.folder)
