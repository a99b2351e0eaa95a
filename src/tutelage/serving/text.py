"""A client of any OpenAI-compatible chat endpoint: teachers that only write, and judges. Counts what it uses."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

from tutelage.errors import ConfigError, ServerError
from tutelage.serving.recorder import Channel


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """What an endpoint charges, in any currency."""

    per_million_prompt_tokens: float = 0.0
    """Of what is read."""
    per_million_completion_tokens: float = 0.0
    """Of what is written."""

    def __post_init__(self) -> None:
        if min(self.per_million_prompt_tokens, self.per_million_completion_tokens) < 0.0:
            raise ConfigError(f"Prices must be >= 0, got {self}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What was used so far."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )

    def cost(self, prices: Prices) -> float:
        """In the currency of the prices."""
        prompt = self.prompt_tokens * prices.per_million_prompt_tokens
        return (prompt + self.completion_tokens * prices.per_million_completion_tokens) / 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was written."""

    text: str
    finish: Literal["stop", "length"]
    """`length` where it was cut off."""
    usage: Usage


_BLOCK = 64
"""Requests after which the cost is looked at again."""


@final
class TextClient:
    """One model behind one endpoint."""

    def __init__(self, channel: Channel, *, model: str, prices: Prices = Prices(), most_cost: float | None = None) -> None:
        """Ask nothing yet.

        Args:
            channel: A transport, or a recorder around one, or a recording.
            model: Its name at the endpoint.
            prices: For the cost.
            most_cost: Nothing more is asked once this much was spent, up to the requests that are under way then; none sets no
                bound.
        """
        self._channel, self._model, self._prices, self._most = channel, model, prices, most_cost
        self._used, self._lock = Usage(), threading.Lock()

    @property
    def used(self) -> Usage:
        """Tokens and requests of all answers so far."""
        return self._used

    @property
    def cost(self) -> float:
        """Of all answers so far."""
        return self._used.cost(self._prices)

    def ask(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
    ) -> list[Answer]:
        """An answer to each conversation, in their order.

        Args:
            conversations: Messages with `role` and `content`.
            max_tokens: Of an answer.
            temperature: 0 takes the likeliest.
            seeds: One for each, sent along for endpoints that heed it.
            names: What each is about, for messages.

        Raises:
            ServerError: The endpoint fails or refuses, an answer is empty or filtered, or the bound on the cost is reached.
        """
        settings = {"model": self._model, "max_tokens": max_tokens, "temperature": temperature}
        bodies = [
            {**settings, **({} if seeds is None else {"seed": seeds[place]}), "messages": [dict(one) for one in messages]}
            for place, messages in enumerate(conversations)
        ]
        called = names or [f"request {place}" for place in range(len(bodies))]
        found = list[Answer]()
        for start in range(0, len(bodies), _BLOCK):
            self._require_means()
            read = partial(self._read, called[start:])
            found += self._channel.each("/v1/chat/completions", bodies[start : start + _BLOCK], read)
        return found

    def _require_means(self) -> None:
        if self._most is not None and self.cost >= self._most:
            raise ServerError(
                f"{self._model!r} was to cost at most {self._most}, and {self.cost:.4f} was spent on {self._used.requests} "
                "requests. Raise the bound, or ask less."
            )

    def _read(self, names: Sequence[str], place: int, reply: Any) -> Answer:
        try:
            (choice,) = reply["choices"]
            text, finish = choice["message"]["content"], choice["finish_reason"]
            used = reply.get("usage") or {}
            usage = Usage(
                requests=1,
                prompt_tokens=int(used.get("prompt_tokens", 0)),
                completion_tokens=int(used.get("completion_tokens", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServerError(
                f"{self._model!r} answered {names[place]} with something that is no chat completion: {str(reply)[:200]}. Is "
                "the address that of an OpenAI-compatible endpoint?"
            ) from error
        with self._lock:
            self._used += usage  # also where the answer is of no use: it was paid for
        if not isinstance(text, str) or not text.strip() or finish not in ("stop", "length"):
            raise ServerError(
                f"{self._model!r} answered {names[place]} with {str(text)[:200]!r}, ended by {finish!r}: nothing was written, "
                "or it was filtered. Change the prompt or the limit of an answer."
            )
        return Answer(text=text, finish=finish, usage=usage)
