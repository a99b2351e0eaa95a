"""Replies kept in a file and given again: tests and offline runs of what asks an endpoint."""

import json
import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, TypeVar, final, runtime_checkable

from tutelage.errors import DataError, ServerError

Found = TypeVar("Found")


@runtime_checkable
class Channel(Protocol):
    """Whoever takes many bodies and gives a reply to each."""

    def each(self, path: str, bodies: Sequence[Any], read: Callable[[int, Any], Found]) -> list[Found]:
        """See `Transport.each`."""
        ...


@final
class Recording:
    """Asks a server and writes down what it answered, a line of JSON for each reply that was accepted."""

    def __init__(self, transport: Channel, file: Path) -> None:
        """Append to a file; keys and headers are never written."""
        self._transport, self._file, self._lock = transport, file, threading.Lock()

    def each(self, path: str, bodies: Sequence[Any], read: Callable[[int, Any], Found]) -> list[Found]:
        """See `Transport.each`."""

        def note(place: int, reply: Any) -> Found:
            found = read(place, reply)
            line = json.dumps({"key": _key(path, bodies[place]), "path": path, "body": bodies[place], "reply": reply})
            with self._lock, self._file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            return found

        return self._transport.each(path, bodies, note)


@final
class Replaying:
    """Gives recorded replies and asks nobody. A request that came several times gets its replies in turn, then the last."""

    def __init__(self, file: Path) -> None:
        """Read a recording.

        Raises:
            DataError: The file is missing, or a line of it is damaged.
        """
        self._file, self._replies = file, dict[str, list[Any]]()
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"The recording {str(file)!r} cannot be read: {error.strerror}. Record it first.") from error
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                self._replies.setdefault(entry["key"], []).append(entry["reply"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"Line {number} of the recording {str(file)!r} is damaged. Record it again.") from error

    def each(self, path: str, bodies: Sequence[Any], read: Callable[[int, Any], Found]) -> list[Found]:
        """See `Transport.each`.

        Raises:
            ServerError: A request is not in the recording.
        """
        return [read(place, self._reply(path, body)) for place, body in enumerate(bodies)]

    def _reply(self, path: str, body: Any) -> Any:
        replies = self._replies.get(_key(path, body))
        if not replies:
            raise ServerError(
                f"The recording {str(self._file)!r} has no reply to this request to {path}: {json.dumps(body)[:200]}. What is "
                "asked has changed since it was made; record it again."
            )
        return replies.pop(0) if len(replies) > 1 else replies[0]


def _key(path: str, body: Any) -> str:
    return blake2b(json.dumps([path, body], sort_keys=True).encode(), digest_size=16).hexdigest()
