"""The client against a server on loopback whose truth is one plain forward in this process."""

import pytest
import torch
from tests.serving.conftest import HASTY, QUICK
from tests.serving.fake import FakeServer, breaks_off, changes, ends_early, fails, hangs

from tutelage.errors import ConfigError, ServerError
from tutelage.models import LanguageModel
from tutelage.serving import VLLM, Drawing, Patience, Transport

SEQUENCES = [[1, 10, 1, 11, 2], [2, 10, 3, 11, 5, 12, 17], [3, 3, 3], [4, 11, 4, 17], [9, 10, 9, 11, 1, 8, 12]]


def client_of(server: FakeServer, patience: Patience = QUICK, **settings) -> VLLM:
    return VLLM(Transport(server.url, patience=patience), sequences=patience.sequences, **settings)


def truth(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.model(torch.tensor([ids])).logits[0].log_softmax(-1)[:-1]


@pytest.mark.parametrize("k", [0, 1, 5])
def test_scores_are_those_of_a_plain_forward_from_the_first_token_that_is_asked_about(server, served_model, k):
    first = [1, 2, 1, 3, 4]
    found = client_of(server).score(SEQUENCES, first=first, k=k)
    for ids, start, scores in zip(SEQUENCES, first, found, strict=True):
        rows = truth(served_model, ids)[start - 1 :]
        torch.testing.assert_close(scores.sampled, rows.gather(-1, torch.tensor(ids[start:]).unsqueeze(-1)).squeeze(-1))
        torch.testing.assert_close(scores.top_log_probs, rows.topk(k, dim=-1).values)
        assert torch.equal(scores.top_ids, rows.topk(k, dim=-1).indices)


def test_requests_hold_as_many_sequences_as_they_may_and_no_more_are_under_way_than_allowed(server):
    patience = Patience(sequences=2, in_flight=3)
    server.always = hangs(0.05)
    client_of(server, patience).score(SEQUENCES * 5, first=[1] * 25, k=0)
    sizes = [len(request["prompt"]) for path, request in server.requests if path == "/v1/completions"]
    assert sorted(sizes) == [1] + [2] * 12
    assert 1 < server.most_under_way <= 3


@pytest.mark.parametrize(
    "fault",
    [fails(500), fails(503), fails(429), hangs(3.0), breaks_off(0.5), breaks_off(0.0), ends_early],
    ids=["500", "503", "429", "hangs", "breaks off", "does not begin", "ends early"],
)
def test_a_failure_that_passes_is_tried_again(server, served_model, fault):
    server.faults.append(fault)
    found = client_of(server, HASTY).score(SEQUENCES[:1], first=[1], k=0)[0]
    torch.testing.assert_close(found.sampled, truth(served_model, SEQUENCES[0])[range(4), SEQUENCES[0][1:]])
    assert len([path for path, _ in server.requests if path == "/v1/completions"]) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (fails(500), "status 500"),
        (hangs(4.0), "silence"),
        (breaks_off(0.5), "RemoteProtocolError"),
        (ends_early, "no JSON, or only the beginning"),
    ],
    ids=["500", "hangs", "breaks off", "ends early"],
)
def test_a_failure_that_stays_ends_in_bounded_time_with_what_to_do(server, fault, words):
    client = client_of(server, HASTY)
    server.always = fault
    with pytest.raises(ServerError, match=f"(?s)3 tries.*{words}.*look into its log"):
        client.score(SEQUENCES, first=[1] * 5, k=0)
    asked = sum(path == "/v1/completions" for path, _ in server.requests)
    assert asked <= 3 * QUICK.in_flight, "after the first failure no further request begins"


def test_a_server_that_is_not_up_is_reported_with_its_address():
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9.*Check that the server runs"):
        VLLM(Transport("http://127.0.0.1:9", patience=QUICK))


def test_a_server_that_dies_in_the_middle_ends_the_call(server):
    client = client_of(server)
    server.faults.extend([None, changes(lambda body: server.stop())])
    server.always = breaks_off(0.0)
    with pytest.raises(ServerError, match="gave no usable reply in"):
        client.score(SEQUENCES * 4, first=[1] * 20, k=0)


def _edit_first(**values):
    def edit(body):
        body["choices"][0] |= values

    return changes(edit)


def _log_prob(value):
    def edit(body):
        for entry in body["choices"][-1]["prompt_logprobs"][-1].values():
            entry["logprob"] = value

    return changes(edit)


def _rank(body):
    list(body["choices"][0]["prompt_logprobs"][-1].values())[-1]["rank"] = 99


WRONG = {
    "another model answers": (changes(lambda body: body | {"model": "another"}), "'another' answered"),
    "no choices": (changes(lambda body: {"model": "served"}), "without choices"),
    "an answer is missing": (changes(lambda body: body["choices"].pop() and None), "left 1 of 2 prompts"),
    "an answer comes twice": (changes(lambda body: body["choices"].append(body["choices"][0])), "number 0 twice"),
    "an index beyond": (_edit_first(index=7), "number 7 that is none"),
    "answers are exchanged": (
        changes(lambda body: [choice.update(index=1 - choice["index"]) for choice in body["choices"]] and None),
        "belongs to another prompt",
    ),
    "no prompt is named": (_edit_first(prompt_token_ids=None), "belongs to another prompt"),
    "no log-probs": (_edit_first(prompt_logprobs=None), "no prompt log-probs for 5 tokens"),
    "too few log-probs": (_edit_first(prompt_logprobs=[None, {}]), "2 prompt log-probs for 5 tokens"),
    "a log-prob is missing": (_log_prob(None), "log-probability None"),
    "a log-prob is NaN": (_log_prob(float("nan")), "log-probability nan"),
    "a log-prob is minus infinity": (_log_prob(-9999.0), r"log-probability -9999\.0"),
    "a log-prob is above zero": (_log_prob(0.5), r"log-probability 0\.5"),
    "probabilities beyond one": (_log_prob(-0.01), "add up to"),
    "a rank is missing": (changes(_rank), "entries of ranks"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_a_reply_that_is_not_what_was_asked_for_is_refused(server, name):
    fault, words = WRONG[name]
    client = client_of(server)
    server.faults.append(fault)
    with pytest.raises(ServerError, match=words):
        client.score(SEQUENCES[:2], first=[1, 1], k=3)
    assert len(server.requests) == 2, "asking again would only hide it"


def test_answers_out_of_order_are_put_in_order(server, served_model):
    client = client_of(server)
    server.faults.append(changes(lambda body: body["choices"].reverse()))
    found = client.score(SEQUENCES[:2], first=[1, 1], k=0)
    for ids, scores in zip(SEQUENCES, found, strict=False):
        torch.testing.assert_close(scores.sampled, truth(served_model, ids)[range(len(ids) - 1), ids[1:]])


def test_the_servers_limits_are_explained(start, served_model):
    client = client_of(start(served_model, max_logprobs=4, max_model_len=8))
    with pytest.raises(ServerError, match=r"--max-logprobs 5, or ask for fewer \(--recipe\.teacher\.k\)"):
        client.score(SEQUENCES[:1], first=[1], k=5)
    with pytest.raises(ServerError, match="larger --max-model-len"):
        client.score([[1] * 8], first=[1], k=0)
    with pytest.raises(ServerError, match="another tokenizer"):
        client.score([[1, 4000]], first=[1], k=0)
    assert client.max_scored_tokens == 7
    assert len(client.score([[1] * 7], first=[1], k=4)) == 1


def test_the_model_behind_the_address_must_be_the_one_that_was_named(server, start, served_model):
    with pytest.raises(ServerError, match="should serve the model 'mine', and it serves 'served'"):
        client_of(server, name="mine")
    assert client_of(server, name="served").name == client_of(server).name == "served"
    text_only = start(served_model, max_model_len=None)
    with pytest.raises(ServerError, match="does not say how long a sequence"):
        client_of(text_only)


def test_the_canary_travels_with_every_request_and_other_weights_are_refused(server, other_model):
    client = client_of(server)
    canary, gap = client.self_test([1, 2, 3, 4], k=2, tolerance_nats=0.01)
    assert gap < 1e-6
    server.requests.clear()
    client.score(SEQUENCES, first=[1] * 5, k=0, canary=canary)
    assert all(request["prompt"][0] == [1, 2, 3, 4] for _, request in server.requests)
    server.model = other_model
    with pytest.raises(ServerError, match=r"not those that answered before.*resume the run"):
        client.score(SEQUENCES, first=[1] * 5, k=0, canary=canary)


def test_replicas_that_disagree_are_found_before_anything_is_trained(start, served_model, other_model):
    server = start(served_model)
    client = client_of(server)

    def another(body):
        server.model = other_model if server.model is served_model else served_model

    server.always = changes(another)
    with pytest.raises(ServerError, match=r"6 times, and its answers differ by up to \d.*Replicas"):
        client.self_test([1, 2, 3, 4], k=0, tolerance_nats=0.01)


DRAWING = Drawing(stop_token_ids=frozenset({17}), vocab=18, rows=18)


def test_what_is_drawn_depends_on_the_seed_alone_and_carries_its_log_probs(server, served_model):
    client, prompts = client_of(server), [[1, 10, 1, 11]] * 6
    one = client.sample(prompts, DRAWING, seeds=range(6), limits=[5] * 6)
    again = client.sample(prompts[::-1], DRAWING, seeds=[5, 4, 3, 2, 1, 0], limits=[5] * 6)[::-1]
    assert len({tuple(each.token_ids.tolist()) for each in one}) > 1
    for first, second in zip(one, again, strict=True):
        assert torch.equal(first.token_ids, second.token_ids)
        rows = truth(served_model, [1, 10, 1, 11, *first.token_ids.tolist()])[3:]
        torch.testing.assert_close(first.log_probs, rows.gather(-1, first.token_ids.unsqueeze(-1)).squeeze(-1))
        assert (first.finish == "stop") == (int(first.token_ids[-1]) == 17)
        assert 17 not in first.token_ids[:-1]


DRAWN_WRONG = {
    "an id beyond the vocabulary": (_edit_first(token_ids=[1, 99], logprobs={"token_logprobs": [-1, -1]}), "token 99"),
    "more tokens than asked for": (_edit_first(token_ids=[1] * 9, logprobs={"token_logprobs": [-1] * 9}), "9 tokens"),
    "no tokens": (_edit_first(token_ids=[], logprobs={"token_logprobs": []}), "0 tokens"),
    "no ids": (_edit_first(token_ids=None), "no tokens"),
    "fewer log-probs than tokens": (_edit_first(token_ids=[1, 1], logprobs={"token_logprobs": [-1]}), "1 log-probs"),
    "no log-probs": (_edit_first(logprobs=None), "no log-probs"),
    "NaN": (_edit_first(token_ids=[1], logprobs={"token_logprobs": [float("nan")]}), "log-probability nan"),
    "cut off without a reason": (
        _edit_first(token_ids=[1, 2], logprobs={"token_logprobs": [-1, -1]}, finish_reason="abort"),
        "ended by 'abort'",
    ),
    "shorter than its limit": (
        _edit_first(token_ids=[1, 2], logprobs={"token_logprobs": [-1, -1]}, finish_reason="length"),
        "ended by 'length'",
    ),
    "goes on after its end": (
        _edit_first(token_ids=[17, 17], logprobs={"token_logprobs": [-1, -1]}, finish_reason="stop"),
        "ended by 'stop'",
    ),
}


@pytest.mark.parametrize("name", list(DRAWN_WRONG))
def test_a_response_that_is_not_whole_is_refused(server, name):
    fault, words = DRAWN_WRONG[name]
    client = client_of(server)
    server.faults.append(fault)
    with pytest.raises(ServerError, match=words):
        client.sample([[1, 10]], DRAWING, seeds=[1], limits=[5])


def test_whether_log_probs_are_those_after_processing_is_found_out(server):
    client = client_of(server)
    assert client.reports_processed([1, 2])
    server.processed = False
    assert not client.reports_processed([1, 2])


def test_settings_out_of_range_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="time limits > 0"):
        Patience(timeout_seconds=0.0)
    with pytest.raises(ConfigError, match="in_flight >= 1"):
        Patience(in_flight=0)
    with pytest.raises(ConfigError, match="must begin with http"):
        Transport("127.0.0.1:8000")
    with pytest.raises(ConfigError, match="'NO_SUCH_KEY' should hold the server's key"):
        Transport("http://127.0.0.1:8000", key_variable="NO_SUCH_KEY")


def test_waits_grow_and_are_bounded_and_the_servers_own_wish_is_heard(server):
    waits: list[float] = []
    patience = Patience(first_wait_seconds=1.0, longest_wait_seconds=6.0, retries=5)
    transport = Transport(server.url, patience=patience, sleep=waits.append)
    server.always = fails(503)
    with pytest.raises(ServerError):
        transport.post("/v1/completions", {"model": "served", "prompt": [[1]], "max_tokens": 1, "temperature": 0.0})
    assert all(low <= wait <= high for wait, low, high in zip(waits, (0.5, 1, 2, 4, 6), (1, 2, 4, 6, 6), strict=True))


def test_a_request_that_must_not_be_carried_out_twice_is_sent_once(server):
    server.always = fails(500)
    transport = Transport(server.url, patience=QUICK)
    with pytest.raises(ServerError, match="in 1 tries"):
        transport.post("/v1/completions", {"model": "served", "prompt": [[1]], "max_tokens": 1, "temperature": 0}, again=False)
    assert len(server.requests) == 1


def test_the_key_is_sent_and_stays_out_of_messages(server, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "secret-words")
    transport = Transport(server.url, patience=QUICK, key_variable="SERVER_KEY")
    assert transport._client.headers["Authorization"] == "Bearer secret-words"
    server.always = fails(500)
    with pytest.raises(ServerError) as caught:
        transport.post("/v1/completions", {"model": "served", "prompt": [[1]], "max_tokens": 1, "temperature": 0})
    assert "secret-words" not in str(caught.value)
