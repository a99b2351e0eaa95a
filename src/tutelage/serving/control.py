"""Giving a server new weights: pause, change them, forget what the old ones computed, go on.

These calls exist on servers that are started with `VLLM_SERVER_DEV_MODE=1`. They are for servers of one's own: whoever can
reach the address can use them.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from tutelage.errors import ServerError
from tutelage.serving.transport import Refused, Transport

EXTENSION = "tutelage.vllm_worker.RebuildHead"
"""What the server's `--worker-extension-cls` should name."""


@final
class Control:
    """The reins of one server."""

    def __init__(self, transport: Transport) -> None:
        """Ask the server how it was started.

        Raises:
            ServerError: It was not started for this.
        """
        self._transport, self.url = transport, transport.url
        try:
            found = transport.get("/server_info", config_format="json")["vllm_config"]
            self.extended = found["parallel_config"]["worker_extension_cls"] == EXTENSION
            engine = found.get("weight_transfer_config")
            self.engine: str | None = None if engine is None else engine["backend"]
            """Name of the weight-transfer engine that it was started with."""
        except (Refused, KeyError, TypeError) as error:
            raise ServerError(
                f"{transport.url} does not let its weights be changed. Start it with VLLM_SERVER_DEV_MODE=1 in its "
                "environment, on an address that nobody else reaches."
            ) from error
        # A worker that is asked for a method that it lacks takes its server down, so the method is never guessed.
        self._method = "reload_and_rebuild" if self.extended else "reload_weights"

    def load(self, folder: Path) -> None:
        """Have the server read its weights from a folder; see `exchange`.

        Raises:
            ServerError: See `exchange`.
        """
        body = {"method": self._method, "kwargs": {"weights_path": str(folder.resolve())}}
        self.exchange(lambda: self.post("/collective_rpc", body))

    def exchange(self, change: Callable[[], object]) -> None:
        """Pause the server, change its weights, and drop every cache of the old ones.

        Requests that are under way are finished first, with the old weights. Afterwards the server goes on, also where this
        failed: then with unknown weights, which must not be used.

        Raises:
            ServerError: The server or the change failed, or its prefix cache could not be dropped.
        """
        self.post("/pause", mode="wait")
        try:
            change()
            reply = self.post("/reset_prefix_cache")
        except ServerError:
            with suppress(ServerError):  # why the weights could not be changed matters more
                self.post("/resume")
            raise
        self.post("/resume")
        if not isinstance(reply, dict) or reply.get("success") is not True:
            raise ServerError(
                f"{self.url} kept its prefix cache of the old weights ({reply!r}): responses would begin with what "
                "those computed. Does somebody else use this server? Start it for this run alone, or with "
                "--no-enable-prefix-caching."
            )

    def get(self, path: str) -> Any:
        """The reply to a question about the server.

        Raises:
            ServerError: There is none.
        """
        return self._transport.get(path)

    def post(self, path: str, body: Any = None, **parameters: str) -> Any:
        """The reply to a request that is made once.

        Raises:
            ServerError: The server failed.
        """
        return self._transport.post(path, body, again=False, parameters=parameters)
