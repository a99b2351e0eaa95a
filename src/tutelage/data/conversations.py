"""Conversations in a data set: what a turn must have, and where the prompt ends."""

from typing import Any

from tutelage.errors import DataError, nearest
from tutelage.types import Message


def conversation(value: Any, *, where: str) -> tuple[Message, ...]:
    """The turns of a conversation, checked; keys without a value are left out, because Parquet gives every turn every key.

    Raises:
        DataError: Not a list of turns, or a turn lacks its role or content.
    """
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"{where}: expected a list of turns, found {type(value).__name__} {str(value)[:60]!r}.")
    return tuple(_turn(turn, where=f"{where}, turn {number}") for number, turn in enumerate(value, start=1))


def split_at_response(turns: tuple[Message, ...], *, where: str) -> tuple[tuple[Message, ...], str | None]:
    """The prompt, and the text of the assistant's last turn where the conversation ends with one.

    Raises:
        DataError: Nothing stands before the response.
    """
    if turns[-1]["role"] != "assistant":
        return turns, None
    if len(turns) == 1:
        raise DataError(
            f"{where}: the conversation is one assistant turn, so there is no prompt. Put the user's turn before it."
        )
    content = turns[-1]["content"]
    return turns[:-1], content if isinstance(content, str) and content else None  # a turn of tool calls alone has no text


def _turn(turn: Any, *, where: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(
            f"{where}: expected an object with 'role' and 'content', found {type(turn).__name__} {str(turn)[:60]!r}."
        )
    kept = {key: value for key, value in turn.items() if value is not None}
    if not isinstance(kept.get("role"), str):
        raise DataError(_lacks("role", turn, where=where))
    if "content" not in kept and "tool_calls" not in kept:
        raise DataError(_lacks("content", turn, where=where))
    if not isinstance(kept.setdefault("content", ""), str | list):
        raise DataError(f"{where}: 'content' is {type(kept['content']).__name__}, expected a text or a list of parts.")
    return kept


def _lacks(key: str, turn: dict[str, Any], *, where: str) -> str:
    remedy = nearest(key, turn)
    if "from" in turn and "value" in turn:
        remedy = (
            ": 'from' and 'value' have to be renamed to 'role' and 'content', and 'human' and 'gpt' to 'user' and 'assistant'"
        )
    has = ", ".join(map(str, turn)) or "nothing"
    return f"{where}: a turn needs 'role' and 'content', but this one has no {key!r} (it has {has}){remedy}."
