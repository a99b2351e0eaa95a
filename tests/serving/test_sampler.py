"""A served sampler against a server on loopback, and the exchange of weights with a served student."""

import time
from dataclasses import replace

import pytest
import torch
from tests.pairs import Pair, make_pair
from tests.serving.conftest import HASTY, QUICK
from tests.serving.fake import FakeServer, changes, hangs

from tutelage.errors import ConfigError, DataError, PreflightError, ServerError
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import LanguageModel, ModelSource, load
from tutelage.rollouts import Sampler
from tutelage.rollouts.drawing import distribution
from tutelage.rollouts.sampler_parts import ServedStudent
from tutelage.rollouts.served import ServedSampler
from tutelage.rollouts.served_copy import ServedCopy
from tutelage.rollouts.sources import Sampling
from tutelage.rollouts.synced import SyncedSampler
from tutelage.run import api
from tutelage.serving import VLLM, Transport
from tutelage.serving.control import EXTENSION
from tutelage.tracking import events

PROMPTS = [[1, 10, 1, 11], [2, 10, 2, 11], [3, 11]]
STOPS = frozenset({17})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def sampler_of(server: FakeServer, *, vocab: int = 19) -> ServedSampler:
    client = VLLM(Transport(server.url, patience=QUICK))
    return ServedSampler(client, vocab=vocab, rows=server.model.vocab_size, stop_token_ids=STOPS)


def own_log_probs(model: LanguageModel, prompt: list[int], ids: torch.Tensor, sampling: Sampling, vocab: int) -> torch.Tensor:
    with torch.no_grad():
        logits = model.model(torch.tensor([[*prompt, *ids.tolist()]])).logits[0, len(prompt) - 1 : -1, :vocab]
    plain = Sampling() if sampling.temperature == 0.0 else sampling
    return distribution(logits, plain).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=6),
        Sampling(temperature=0.5, top_k=3, max_new_tokens=6),
        Sampling(temperature=0.0, max_new_tokens=6),
    ],
    ids=["plain", "filtered", "greedy"],
)
def test_log_probs_are_those_of_the_distribution_that_was_drawn_from(server, served_model, sampling):
    sampler = sampler_of(server)
    assert isinstance(sampler, Sampler)
    for prompt, sample in zip(PROMPTS, sampler.sample(PROMPTS, sampling, seed=3), strict=True):
        truth = own_log_probs(served_model, prompt, sample.token_ids, sampling, 19)
        torch.testing.assert_close(sample.log_probs, truth, rtol=0, atol=1e-5)


def test_rows_of_the_head_that_no_token_uses_are_never_drawn(start, tmp_path):
    shape = Shape(hidden=16, initial_std=0.4, vocab_size=64)
    padded = make_model(tmp_path / "padded", tokenizer=make_tokenizer("0123456789+=;ab\n"), shape=shape, seed=2)
    server = start(load(ModelSource(path=str(padded)), role="teacher"))
    found = sampler_of(server).sample(PROMPTS * 6, Sampling(max_new_tokens=8), seed=1)
    assert max(int(sample.token_ids.max()) for sample in found) < 19
    for prompt, sample in zip(PROMPTS, found, strict=False):
        truth = own_log_probs(server.model, prompt, sample.token_ids, Sampling(), 19)
        torch.testing.assert_close(sample.log_probs, truth, rtol=0, atol=1e-5)


def test_responses_keep_their_own_limits_and_seeds(server):
    sampler = sampler_of(server)
    found = sampler.sample([PROMPTS[0]] * 4, Sampling(max_new_tokens=9), seed=7, max_new_tokens=[0, 1, 5, 5])
    assert [len(sample.token_ids) for sample in found[:2]] == [0, 1]
    assert all(len(sample.token_ids) <= 5 for sample in found[2:])
    again = sampler.sample([PROMPTS[0]] * 4, Sampling(max_new_tokens=9), seed=7, max_new_tokens=[0, 1, 5, 5])
    assert [sample.token_ids.tolist() for sample in found] == [sample.token_ids.tolist() for sample in again]
    seeds = [request["seed"] for path, request in server.requests if path == "/v1/completions"]
    assert len(set(seeds[:3])) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_what_the_server_cannot_read_is_refused_before_it_is_asked(server):
    sampler = sampler_of(server)
    server.requests.clear()
    with pytest.raises(DataError, match="Prompt 1 of this call has 4 tokens and its response may have 125"):
        sampler.sample([[1], [1, 2, 3, 4]], Sampling(max_new_tokens=125), seed=0)
    with pytest.raises(DataError, match="has no tokens"):
        sampler.sample([[]], Sampling(max_new_tokens=1), seed=0)
    assert not server.requests


def test_a_server_that_reports_other_log_probs_than_it_draws_from_is_refused_with_the_flag(server):
    server.processed = False
    sampler = sampler_of(server)
    sampler.sample(PROMPTS, Sampling(max_new_tokens=2), seed=0)
    with pytest.raises(ServerError, match="--logprobs-mode processed_logprobs"):
        sampler.sample(PROMPTS, Sampling(temperature=0.7, max_new_tokens=2), seed=0)


def student_of(pair: Pair) -> LanguageModel:
    return load(ModelSource(path=str(pair.student)), role="student")


@pytest.fixture
def student_server(pair, start) -> FakeServer:
    return start(load(ModelSource(path=str(pair.student)), role="teacher"), developer=True)


def synced(server: FakeServer, student: LanguageModel, **settings) -> SyncedSampler:
    part = ServedStudent(url=server.url, patience=QUICK, **settings)
    return SyncedSampler(ServedCopy(part, student, vocab=19, stop_token_ids=STOPS), student)


def move(student: LanguageModel, size: float = 0.3) -> None:
    with torch.no_grad():
        for parameter in student.trainable_parameters():
            parameter.add_(size * torch.randn_like(parameter) * parameter.std())


def test_the_servers_weights_follow_the_students_and_only_when_they_have_moved(pair, student_server):
    student = student_of(pair)
    sampler = synced(student_server, student)
    assert sampler.figures()["serving/sync_gap_nats"] < 1e-5
    sampler.sample(PROMPTS, Sampling(max_new_tokens=3), seed=0)
    assert not sampler.figures(), "nothing has moved"
    move(student)
    found = sampler.sample(PROMPTS, Sampling(max_new_tokens=3), seed=0)
    assert sampler.figures()["serving/sync_gap_nats"] < 1e-5
    for prompt, sample in zip(PROMPTS, found, strict=True):
        truth = own_log_probs(student, prompt, sample.token_ids, Sampling(), 19)
        torch.testing.assert_close(sample.log_probs, truth, rtol=0, atol=1e-4)


def test_the_proof_before_the_run_leaves_the_student_as_it_was(pair, student_server):
    student = student_of(pair)
    before = {name: value.clone() for name, value in student.trainable_state().items()}
    synced(student_server, student)
    assert all(torch.equal(before[name], value) for name, value in student.trainable_state().items())


def keep_head(old: LanguageModel, new: LanguageModel) -> None:
    """What vLLM does with a tied head on a CPU: the embedding is new, the packed head is not."""
    network = new.model
    network.lm_head.weight = torch.nn.Parameter(old.model.lm_head.weight.detach().clone())


def test_a_server_that_keeps_its_old_head_is_refused_before_the_first_step_with_the_remedy(pair, student_server):
    student_server.keeps = keep_head
    with pytest.raises(ServerError, match=f"differ from the trainer's by .*--worker-extension-cls {EXTENSION}"):
        synced(student_server, student_of(pair))


def test_with_the_worker_extension_the_same_server_is_taken(pair, start):
    server = start(load(ModelSource(path=str(pair.student)), role="teacher"), developer=True, extension=EXTENSION)
    server.keeps = keep_head
    sampler = synced(server, student_of(pair))
    assert sampler.figures()["serving/sync_gap_nats"] < 1e-5
    assert {request["method"] for path, request in server.requests if path == "/collective_rpc"} == {"reload_and_rebuild"}


def test_a_served_student_that_is_started_again_with_other_weights_is_found(pair, student_server, other_model):
    sampler = synced(student_server, student_of(pair))
    student_server.model = other_model
    with pytest.raises(ServerError, match="not those that answered before"):
        sampler.sample(PROMPTS, Sampling(max_new_tokens=2), seed=0)


def test_a_server_that_was_not_started_for_it_is_refused_with_what_to_set(pair, start):
    server = start(load(ModelSource(path=str(pair.student)), role="teacher"))
    with pytest.raises(ServerError, match="VLLM_SERVER_DEV_MODE=1"):
        synced(server, student_of(pair))


def test_a_prefix_cache_that_stays_is_refused(pair, student_server):
    student_server.drops_cache = False
    with pytest.raises(ServerError, match="kept its prefix cache"):
        synced(student_server, student_of(pair))


def test_a_failed_reload_leaves_the_server_going_and_the_sampler_unsynced(pair, student_server):
    student = student_of(pair)
    sampler = synced(student_server, student)
    answer = student_server._reload
    student_server._reload = lambda request: (500, {"error": {"message": "no space left"}})
    move(student)
    with pytest.raises(ServerError, match="no space left"):
        sampler.sample(PROMPTS, Sampling(max_new_tokens=2), seed=0)
    assert student_server.requests[-1][0] == "/resume"
    student_server._reload = answer
    sampler.sample(PROMPTS, Sampling(max_new_tokens=2), seed=0)
    assert sampler.figures()["serving/sync_gap_nats"] < 1e-5


def test_a_served_student_without_an_address_and_a_tolerance_of_nothing_are_refused(pair):
    with pytest.raises(PreflightError, match=r"--sampler\.url"):
        ServedCopy(ServedStudent(), student_of(pair), vocab=19, stop_token_ids=STOPS)
    with pytest.raises(ConfigError, match="tolerance_nats > 0"):
        ServedStudent(tolerance_nats=0.0)


def test_a_run_with_a_served_student_logs_the_gap_of_every_exchange(pair, student_server, tmp_path):
    config = pair.config("opd", tmp_path / "run", evaluation_data=None)
    result = api.train(replace(config, sampler=ServedStudent(url=student_server.url, patience=QUICK)))
    found = [event.metrics for event in events.read(result.folder / "metrics.jsonl") if "train/loss_nats" in event.metrics]
    gaps = [metrics["serving/sync_gap_nats"] for metrics in found]
    assert len(gaps) == 4
    assert max(gaps) < 1e-5
    assert max(metrics["signal/sampler_gap_nats"] for metrics in found) < 1e-4


def test_a_server_that_goes_silent_while_it_draws_ends_the_call_in_bounded_time(server):
    client = VLLM(Transport(server.url, patience=replace(HASTY, retries=1)))
    sampler = ServedSampler(client, vocab=19, rows=19, stop_token_ids=STOPS)
    server.always = hangs(4.0)
    began = time.monotonic()
    with pytest.raises(ServerError, match="silence"):
        sampler.sample(PROMPTS, Sampling(max_new_tokens=2), seed=0)
    assert time.monotonic() - began < 30.0


def test_one_broken_reply_among_many_gives_no_responses_at_all(server):
    sampler = sampler_of(server)
    server.faults.extend([None, changes(lambda body: body["choices"][0].update(finish_reason="abort"))])
    with pytest.raises(ServerError, match="abort"):
        sampler.sample(PROMPTS, Sampling(max_new_tokens=3), seed=0)
