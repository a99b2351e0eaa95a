"""Replies kept in a file and given again: tests and offline runs of what asks an endpoint."""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, TypeVar, final, runtime_checkable

from tutelage.errors import DataError, ServerError

_LOG = logging.getLogger(__name__)

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
        for key, reply in _entries(file):
            self._replies.setdefault(key, []).append(reply)

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


@final
class Kept:
    """Gives what a file has, asks for the rest, and writes that down: the same is never paid for twice.

    A reply from the file says nothing of tokens, since none were used.
    """

    def __init__(self, transport: Channel, file: Path) -> None:
        """Begin a file, or go on with one; the half line of a writer that was killed is cut off.

        Raises:
            DataError: The file cannot be read or written, or is damaged.
        """
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _end_line(file)
        except OSError as error:
            raise DataError(
                f"Answers cannot be kept in {str(file)!r}: {error.strerror}. Name a file that can be written."
            ) from error
        self._replies, self._lock, self.found = dict[str, Any](), threading.Lock(), 0
        """How many replies were found in the file."""
        for key, reply in _entries(file):
            self._replies.setdefault(key, reply)
        self._asks = Recording(transport, file)

    def each(self, path: str, bodies: Sequence[Any], read: Callable[[int, Any], Found]) -> list[Found]:
        """See `Transport.each`."""
        with self._lock:
            known = {place: self._replies.get(_key(path, body)) for place, body in enumerate(bodies)}
            missing = [place for place, reply in known.items() if reply is None]
            self.found += len(bodies) - len(missing)

        def note(place: int, reply: Any) -> Found:
            found = read(missing[place], reply)
            with self._lock:
                self._replies.setdefault(_key(path, bodies[missing[place]]), reply)
            return found

        fresh = iter(self._asks.each(path, [bodies[place] for place in missing], note))
        return [next(fresh) if known[place] is None else read(place, _unpaid(known[place])) for place in range(len(bodies))]


def _unpaid(reply: Any) -> Any:
    return {**reply, "usage": None} if isinstance(reply, dict) else reply


def _end_line(file: Path) -> None:
    with file.open("a+b") as opened:
        opened.seek(0)
        content = opened.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            _LOG.warning("%s ended in the middle of a line, which was cut off: that answer will be asked for again.", file)
            opened.truncate(whole)


def _entries(file: Path) -> list[tuple[str, Any]]:
    """Key and reply of each line.

    Raises:
        DataError: The file is missing, or a line of it is damaged.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"The recording {str(file)!r} cannot be read: {error.strerror}. Record it first.") from error
    found = list[tuple[str, Any]]()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            found.append((entry["key"], entry["reply"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"Line {number} of the recording {str(file)!r} is damaged. Record it again.") from error
    return found


def _key(path: str, body: Any) -> str:
    return blake2b(json.dumps([path, body], sort_keys=True).encode(), digest_size=16).hexdigest()
