"""A chat endpoint on loopback that says what it is told to say."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.serving.fake import FakeServer

Says = Callable[[list[dict[str, Any]]], Any]
"""From the messages to a text, or to a text and how it ended."""


@contextmanager
def chat_endpoint(says: Says) -> Iterator[FakeServer]:
    """Every answer costs 10 tokens to read and as many to write as it has characters."""
    server = FakeServer(None)  # type: ignore[arg-type]  # a chat endpoint needs no model that scores

    def answer(path: str, request: Any) -> tuple[int, Any]:
        if path != "/v1/chat/completions":
            return 404, {"error": {"message": "not found"}}
        said = says(request["messages"])
        text, finish = said if isinstance(said, tuple) else (said, "stop")
        usage = {"prompt_tokens": 10, "completion_tokens": len(text)}
        return 200, {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": usage}

    server._answer = answer  # type: ignore[method-assign]
    server.start()
    try:
        yield server
    finally:
        server.stop()
