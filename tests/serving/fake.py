"""A server on loopback that answers as vLLM does, from a model in this process, and misbehaves as it is told.

Its replies have the form that vLLM 0.32 was seen to send; the tests marked `served` compare the two.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from tutelage.models import LanguageModel, ModelSource, load

Fault = Callable[["Reply"], None]
ENGINE = ("/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update")
"""What a server answers that was started with a weight-transfer engine."""


class Reply:
    """What is about to be sent; a fault changes it."""

    def __init__(self, path: str, request: Any, body: Any, status: int) -> None:
        self.path, self.request, self.body, self.status = path, request, body, status
        self.silence_seconds = 0.0
        self.cut_at: float | None = None
        """Share of the bytes after which the connection closes."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news."""


class FakeServer:
    """Serves one model; `faults` are taken one for each completion request, the first first."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        name: str = "served",
        max_logprobs: int = 20,
        max_model_len: int | None = 128,
        developer: bool = False,
        extension: str | None = None,
        engine: str | None = None,
    ) -> None:
        self.model, self.name, self.max_logprobs, self.max_model_len = model, name, max_logprobs, max_model_len
        self.faults: deque[Fault | None] = deque()
        self.always: Fault | None = None
        self.processed, self.drops_cache = True, True
        self.developer, self.extension, self.engine = developer, extension, engine
        self.worker: Callable[[str, Any], tuple[int, Any]] | None = None
        """Carries out the weight-transfer engine's requests."""
        self.keeps: Callable[[LanguageModel, LanguageModel], None] | None = None
        """What a plain reload leaves of the old model in the new one."""
        self.requests: list[tuple[str, Any]] = []
        self.under_way, self.most_under_way = 0, 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self, port: int = 0) -> "FakeServer":
        self._server = _Quiet(("127.0.0.1", port), _handler(self))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str, request: Any) -> Reply:
        self.requests.append((path, request))
        status, body = self._answer(path.partition("?")[0], request)
        reply = Reply(path, request, body, status)
        if path == "/v1/completions":
            with self._lock:
                fault = self.faults.popleft() if self.faults else self.always
            if fault is not None:
                fault(reply)
        return reply

    def _answer(self, path: str, request: Any) -> tuple[int, Any]:
        match path:
            case "/v1/models":
                return 200, {"data": [{"id": self.name, "max_model_len": self.max_model_len, "root": self.model.name}]}
            case "/tokenize":
                return 200, {"tokens": self.model.tokenizer(request["prompt"], add_special_tokens=False)["input_ids"]}
            case "/v1/completions":
                return self.complete(request)
            case "/server_info" if self.developer:
                engine = None if self.engine is None else {"backend": self.engine}
                parallel = {"worker_extension_cls": self.extension}
                return 200, {"vllm_config": {"parallel_config": parallel, "weight_transfer_config": engine}}
            case "/get_world_size" if self.developer:
                return 200, {"world_size": 1}
            case path if self.worker is not None and path in ENGINE:
                return self.worker(path, request)
            case "/pause" | "/resume" if self.developer:
                return 200, {"status": path}
            case "/collective_rpc" if self.developer:
                return self._reload(request)
            case "/reset_prefix_cache" if self.developer:
                return 200, {"success": self.drops_cache}
            case _:
                return 404, {"error": {"message": f"{path} not found"}}

    def _reload(self, request: Any) -> tuple[int, Any]:
        new = load(ModelSource(path=request["kwargs"]["weights_path"]), role="teacher")
        if request["method"] == "reload_weights":
            if self.keeps is not None:
                self.keeps(self.model, new)
        elif self.extension is None:
            return 500, _refusal("'CPUWorker' object has no attribute")
        self.model = new
        return 200, {"results": [None]}

    def complete(self, request: Any) -> tuple[int, Any]:
        """Status and body of the answer to a completion request."""
        if request["model"] != self.name:
            return 404, {"error": {"message": f"The model `{request['model']}` does not exist."}}
        k = request.get("prompt_logprobs")
        if k is not None and k > self.max_logprobs:
            return 400, _refusal(f"Requested prompt logprobs of {k}, which is greater than max allowed: {self.max_logprobs}")
        for prompt in request["prompt"]:
            if self.max_model_len is not None and len(prompt) + request["max_tokens"] > self.max_model_len:
                return 400, _refusal(f"This model's maximum context length is {self.max_model_len} tokens.")
            if max(prompt) >= self.model.vocab_size:
                return 400, _refusal(f"Token id {max(prompt)} is out of vocabulary")
        choices = [self._choice(index, prompt, request) for index, prompt in enumerate(request["prompt"])]
        return 200, {"model": self.name, "choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    def _choice(self, index: int, prompt: list[int], request: Any) -> dict[str, Any]:
        with self._lock:
            drawn, values, stopped = self._draw(prompt, request)
            said = None if request.get("prompt_logprobs") is None else self._said(prompt, request["prompt_logprobs"])
        return {
            "index": index,
            "token_ids": drawn,
            "logprobs": None if request.get("logprobs") is None else {"token_logprobs": values},
            "finish_reason": "stop" if stopped else "length",
            "prompt_token_ids": list(prompt),
            "prompt_logprobs": said,
        }

    @torch.no_grad()
    def _log_probs(self, ids: list[int]) -> torch.Tensor:
        return self.model.model(torch.tensor([ids])).logits[0].log_softmax(-1)

    def _said(self, prompt: list[int], k: int) -> list[Any]:
        found: list[Any] = [None]
        for row, token in zip(self._log_probs(prompt)[:-1], prompt[1:], strict=True):
            order = row.argsort(descending=True).tolist()
            entries = {token: order.index(token) + 1} | {index: place + 1 for place, index in enumerate(order[:k])}
            found.append({str(index): {"logprob": float(row[index]), "rank": rank} for index, rank in entries.items()})
        return found

    def _draw(self, prompt: list[int], request: Any) -> tuple[list[int], list[float], bool]:
        generator = torch.Generator().manual_seed(request.get("seed") or 0)
        stops, ids, values = set(request.get("stop_token_ids", ())), list[int](), list[float]()
        for _ in range(request["max_tokens"]):
            raw = self._log_probs([*prompt, *ids])[-1]
            logits = raw.clone()
            for index, bias in request.get("logit_bias", {}).items():
                logits[int(index)] += bias
            if request["temperature"] > 0.0:
                logits = logits / request["temperature"]
                if request["top_k"]:
                    logits[logits < logits.topk(request["top_k"]).values[-1]] = float("-inf")
                ids.append(int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))
            else:
                ids.append(int(logits.argmax()))
            values.append(float((logits.log_softmax(-1) if self.processed else raw)[ids[-1]]))
            if ids[-1] in stops:
                return ids, values, True
        return ids, values, False


def _refusal(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "code": 400}}


def _handler(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the base class looks for this name
            self._reply(None)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self._reply(json.loads(self.rfile.read(length) or b"null"))

        def _reply(self, request: Any) -> None:
            with server._lock:
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
            try:
                self._send(server.answer(self.path, request))
            finally:
                with server._lock:
                    server.under_way -= 1

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.silence_seconds)
            content = (reply.body if isinstance(reply.body, _Text) else json.dumps(reply.body)).encode()
            if reply.cut_at == 0.0:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if reply.cut_at is not None:
                content, self.close_connection = content[: int(reply.cut_at * len(content))], True
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: tests print no requests."""

    return Handler


def fails(status: int = 500) -> Fault:
    """Answers with an error."""

    def fault(reply: Reply) -> None:
        reply.status, reply.body = status, _refusal("EngineCore encountered an issue")

    return fault


def hangs(seconds: float) -> Fault:
    """Is silent for a while."""

    def fault(reply: Reply) -> None:
        reply.silence_seconds = seconds

    return fault


def breaks_off(share: float = 0.5) -> Fault:
    """Closes the connection after a part of the reply; 0 before any of it."""

    def fault(reply: Reply) -> None:
        reply.cut_at = share

    return fault


def ends_early(reply: Reply) -> None:
    """Sends half of its JSON as if it were all."""
    text = json.dumps(reply.body)
    reply.body = _Text(text[: len(text) // 2])


def changes(edit: Callable[[Any], Any]) -> Fault:
    """Edits the parsed reply in place, or gives another one."""

    def fault(reply: Reply) -> None:
        if reply.status == 200:
            reply.body = edit(reply.body) or reply.body

    return fault


def answered_by(other: LanguageModel) -> Fault:
    """Another replica behind the same address answers."""

    def fault(reply: Reply) -> None:
        reply.status, reply.body = FakeServer(other).complete(reply.request)

    return fault


class _Text(str):
    """Sent as it is."""
