"""Chat endpoints: answers, accounts, recordings."""

import json

import pytest
from tests.serving.conftest import QUICK
from tests.serving.fake import FakeServer

from tutelage.errors import ConfigError, DataError, ServerError
from tutelage.serving import Refused, Transport
from tutelage.serving.recorder import Channel, Recording, Replaying
from tutelage.serving.text import Answer, Prices, TextClient, Usage


def talk(*words: str):
    return [[{"role": "user", "content": word}] for word in words]


@pytest.fixture
def endpoint(server: FakeServer) -> FakeServer:
    """Answers with the question in capitals; a word decides about faults."""

    def answer(path, request):
        word = request["messages"][0]["content"]
        if word == "refuse":
            return 400, {"error": {"message": "prompt is not allowed"}}
        choice = {"message": {"content": word.upper()}, "finish_reason": "stop"}
        if word == "filter":
            choice = {"message": {"content": None}, "finish_reason": "content_filter"}
        if word == "nonsense":
            return 200, {"answer": 42}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": len(word)}}

    server._answer = answer
    return server


def test_answers_come_in_order_and_are_counted(endpoint):
    client = TextClient(
        Transport(endpoint.url, patience=QUICK),
        model="big",
        prices=Prices(per_million_prompt_tokens=2.0, per_million_completion_tokens=8.0),
    )
    found = client.ask(talk("one", "three", "seven!"), max_tokens=9, temperature=0.5, seeds=[3, 4, 5])
    assert [answer.text for answer in found] == ["ONE", "THREE", "SEVEN!"]
    assert client.used == Usage(requests=3, prompt_tokens=30, completion_tokens=14)
    assert client.cost == pytest.approx((30 * 2.0 + 14 * 8.0) / 1e6)
    for place, word in enumerate(("one", "three", "seven!")):
        (sent,) = (body for _, body in endpoint.requests if body["messages"][0]["content"] == word)
        assert {"model": "big", "max_tokens": 9, "temperature": 0.5, "seed": 3 + place}.items() <= sent.items()


@pytest.mark.parametrize(
    ("word", "words"),
    [("filter", "ended by 'content_filter'"), ("nonsense", "no chat completion"), ("refuse", "prompt is not allowed")],
)
def test_what_is_no_answer_is_an_error_in_words(endpoint, word, words):
    client = TextClient(Transport(endpoint.url, patience=QUICK), model="big")
    with pytest.raises(ServerError, match=words) as caught:
        client.ask(talk(word), max_tokens=9)
    assert isinstance(caught.value, Refused) == (word == "refuse")
    assert client.used.prompt_tokens == (10 if word == "filter" else 0), "what was filtered was paid for"


def test_nothing_more_is_asked_once_the_bound_on_the_cost_is_reached(endpoint):
    prices = Prices(per_million_prompt_tokens=1e5)
    client = TextClient(Transport(endpoint.url, patience=QUICK), model="big", prices=prices, most_cost=1.0)
    client.ask(talk("a"), max_tokens=9)
    asked = len(endpoint.requests)
    with pytest.raises(ServerError, match=r"at most 1\.0, and 1\.0000 was spent on 1 requests"):
        client.ask(talk("b"), max_tokens=9)
    assert len(endpoint.requests) == asked
    with pytest.raises(ConfigError, match="must be >= 0"):
        Prices(per_million_prompt_tokens=-1.0)


def test_a_recording_gives_the_same_answers_and_the_same_account_without_a_server(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "secret-words")
    file = tmp_path / "replies.jsonl"
    transport = Transport(endpoint.url, patience=QUICK, key_variable="KEY")
    live = TextClient(Recording(transport, file), model="big")
    first = live.ask(talk("one", "two"), max_tokens=9)
    assert "secret-words" not in file.read_text()
    endpoint.stop()
    replayed = TextClient(Replaying(file), model="big")
    assert replayed.ask(talk("two", "one"), max_tokens=9) == first[::-1]
    assert replayed.used == live.used
    with pytest.raises(ServerError, match=r"no reply to this request.*record it again"):
        replayed.ask(talk("one"), max_tokens=10)


def test_a_request_that_was_made_twice_gets_its_replies_in_turn(tmp_path):
    file = tmp_path / "replies.jsonl"
    body = {"model": "big", "max_tokens": 1, "temperature": 1.0, "messages": talk("x")[0]}

    class Two:
        def each(self, path, bodies, read):
            replies = [
                {"choices": [{"message": {"content": word}, "finish_reason": "length"}], "usage": None} for word in ("a", "b")
            ]
            return [read(place, replies[place]) for place in range(len(bodies))]

    Recording(Two(), file).each("/v1/chat/completions", [body, body], lambda place, reply: reply)
    client = TextClient(Replaying(file), model="big")
    texts = [client.ask(talk("x"), max_tokens=1, temperature=1.0)[0].text for _ in range(3)]
    assert texts == ["a", "b", "b"]
    assert client.ask(talk("x"), max_tokens=1, temperature=1.0)[0] == Answer(text="b", finish="length", usage=Usage(requests=1))


def test_a_recording_that_is_missing_or_damaged_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Replaying(tmp_path / "nothing.jsonl")
    file = tmp_path / "damaged.jsonl"
    file.write_text(json.dumps({"key": "a", "reply": 1}) + '\n{"key": "b", "re')
    with pytest.raises(DataError, match="Line 2 of the recording"):
        Replaying(file)
    assert isinstance(Transport("http://127.0.0.1:9", patience=QUICK), Channel)
