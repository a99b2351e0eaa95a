"""Requests to one server: a pool of connections, time limits, tries with growing waits, a bound on what is under way."""

import json
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

from tutelage.errors import ConfigError, ServerError
from tutelage.serving.settings import Patience

if TYPE_CHECKING:
    import httpx2

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that another try may not meet again."""
_SHOWN = 300
"""Characters of a reply that are shown in a message."""

Found = TypeVar("Found")


class Refused(ServerError):
    """The server understood the request and refuses it: asking again would not help."""

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        """With the status and the server's own words."""
        super().__init__(message)
        self.status, self.reason = status, reason


class _Failed(Exception):
    """One try did not succeed, and another one may."""

    def __init__(self, reason: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@final
class Transport:
    """JSON to and from one server. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        *,
        patience: Patience = Patience(),
        key_variable: str | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Open no connection yet.

        Args:
            url: Address without a path, such as `http://127.0.0.1:8000`; a trailing `/v1` is dropped.
            patience: Patience.
            key_variable: Environment variable that holds the key; none sends no key.
            sleep: Waits between tries.

        Raises:
            ConfigError: The address is none, the key's variable is not set, or the HTTP client is not installed.
        """
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"A server's url must begin with http:// or https://, got {url!r}; example: http://127.0.0.1:8000."
            )
        self.url, self._patience, self._sleep = url.rstrip("/").removesuffix("/v1"), patience, sleep
        self._random = random.Random()  # spreads the tries of many clients; nothing of a run depends on it
        self._client = _client(self.url, patience, _headers(key_variable))
        weakref.finalize(self, self._client.close)  # whoever holds a transport need not know when it is over

    def get(self, path: str, **parameters: str) -> Any:
        """The parsed reply to a question that changes nothing.

        Raises:
            ServerError: No usable reply came in all tries.
            Refused: The server refuses.
        """
        return self._persist(partial(self._try, "GET", path, None, parameters), path)

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        again: bool = True,
        stop: threading.Event | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Any:
        """The parsed reply to a body; None where the reply is empty.

        Args:
            path: Below the address.
            body: Sent as JSON.
            again: Try again after failures that may pass. Not for requests that must not be carried out twice.
            stop: Gives up before the next try once it is set.
            parameters: Of the query.

        Raises:
            ServerError: No usable reply came in all tries.
            Refused: The server refuses.
        """
        tries = self._patience.retries if again else 0
        return self._persist(partial(self._try, "POST", path, body, parameters or {}), path, retries=tries, stop=stop)

    def each(self, path: str, bodies: Sequence[Any], read: Callable[[int, Any], Found]) -> list[Found]:
        """Replies to many bodies, read, in the order of the bodies, so many at a time as the settings allow.

        A reply that `read` does not accept ends the call as a failed request does; what is under way is waited for, the rest
        is never sent.

        Args:
            path: Below the address.
            bodies: One for each request.
            read: From a request's place and its reply to what is wanted.

        Raises:
            ServerError: Of the first request in order that failed.
        """
        stop = threading.Event()

        def ask(place: int) -> Found:
            return read(place, self.post(path, bodies[place], stop=stop))

        with ThreadPoolExecutor(self._patience.in_flight, thread_name_prefix="request") as pool:
            asked = [pool.submit(ask, place) for place in range(len(bodies))]
            try:
                return [one.result() for one in asked]
            except BaseException:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _persist(
        self, attempt: Callable[[], Any], path: str, *, retries: int | None = None, stop: threading.Event | None = None
    ) -> Any:
        retries = self._patience.retries if retries is None else retries
        for tried in range(retries + 1):
            try:
                return attempt()
            except _Failed as failure:
                if tried == retries or (stop is not None and stop.is_set()):
                    raise ServerError(
                        f"{self.url}{path} gave no usable reply in {tried + 1} tries; the last one: {failure}. Check that the "
                        f"server runs and is reachable (curl {self.url}/health) and look into its log; a slow one needs a "
                        "larger patience.timeout-seconds."
                    ) from failure
                self._sleep(self._wait(tried, failure.wait_seconds))
        raise AssertionError("the last try either returns or raises")

    def _wait(self, tried: int, asked: float | None) -> float:
        wait = self._patience.first_wait_seconds * 2**tried * self._random.uniform(0.5, 1.0)
        return min(max(wait, asked or 0.0), self._patience.longest_wait_seconds)

    def _try(self, method: str, path: str, body: Any, parameters: Mapping[str, str]) -> Any:
        import httpx2

        try:
            reply = self._client.request(method, path, json=body, params=dict(parameters))
        except httpx2.TimeoutException as error:
            raise _Failed(f"silence ({type(error).__name__}) beyond the time limit") from error
        except httpx2.HTTPError as error:  # no connection, or one that broke in the middle of a reply
            raise _Failed(f"{type(error).__name__}: {error}") from error
        if reply.status_code in _PASSING:
            raise _Failed(f"status {reply.status_code}, {_reason(reply.text)!r}", wait_seconds=_retry_after(reply))
        if reply.status_code >= 400:
            reason = _reason(reply.text)
            raise Refused(
                f"{self.url}{path} refuses the request with status {reply.status_code}: {reason}",
                status=reply.status_code,
                reason=reason,
            )
        try:
            return json.loads(reply.text) if reply.text.strip() else None
        except ValueError as error:
            raise _Failed(f"a reply that is no JSON, or only the beginning of some: ...{reply.text[-60:]!r}") from error


def _client(url: str, patience: Patience, headers: Mapping[str, str]) -> "httpx2.Client":
    try:
        import httpx2
    except ImportError as error:
        raise ConfigError("A served model needs the package httpx2: pip install 'tutelage[serve]'.") from error
    return httpx2.Client(
        base_url=url,
        headers=dict(headers),
        timeout=httpx2.Timeout(patience.timeout_seconds, connect=patience.connect_seconds),
        limits=httpx2.Limits(max_connections=patience.in_flight, max_keepalive_connections=patience.in_flight),
    )


def _headers(key_variable: str | None) -> dict[str, str]:
    if key_variable is None:
        return {}
    key = os.environ.get(key_variable)
    if not key:
        raise ConfigError(f"The environment variable {key_variable!r} should hold the server's key and is not set.")
    return {"Authorization": f"Bearer {key}"}


def _retry_after(reply: Any) -> float | None:
    try:
        return float(reply.headers.get("retry-after", ""))
    except ValueError:  # absent, or a date, which is left to our own waits
        return None


def _reason(text: str) -> str:
    """The server's own words: the message of an error in the OpenAI form, or the beginning of whatever it sent."""
    try:
        found = json.loads(text)
        return str(found["error"]["message"])[:_SHOWN]
    except (ValueError, KeyError, TypeError):
        return text[:_SHOWN]
