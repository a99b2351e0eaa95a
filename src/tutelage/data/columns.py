"""What the columns of a row mean: from rows as they stand in a file to examples under canonical names."""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from tutelage.data.conversations import conversation, split_at_response
from tutelage.data.readers import Row
from tutelage.errors import DataError, nearest
from tutelage.types import Example, FinishReason, Message

_LOG = logging.getLogger(__name__)

TEXTS = ("answer", "solution", "privileged_context", "teacher_id")
"""Canonical columns that hold plain text, and that an example has a field of the same name for."""

CANONICAL = ("prompt", "messages", "response", "finish_reason", *TEXTS, "id")
"""Columns that mean something here; all others are passed on under their own names."""


def examples_of(
    rows: Sequence[Row], *, name: str, columns: Mapping[str, str], require: Collection[str] = (), first_row: int = 0
) -> list[Example]:
    """One example per row.

    Args:
        rows: Rows as they were read.
        name: Of the source, for messages and for the ids of rows without one.
        columns: Canonical column -> column in the source, where the names differ.
        require: Canonical columns that at least one row must have.
        first_row: Number of the first row in its source.

    Raises:
        DataError: A column is missing or holds something else than it should.
    """
    present = {column: None for row in rows for column in row}  # ordered, unlike a set
    _check_mapped(columns, present, name=name)
    origin = _origins(columns, present)
    _check_prompt(origin, present, name=name)
    for column in require:
        _check_required(column, rows, origin, present, name=name)
    consumed = frozenset(origin.values())
    found = [
        _example(row, origin, consumed, where=f"{name}, row {number}", fallback_id=f"{name}:{number}")
        for number, row in enumerate(rows, start=first_row)
    ]
    return _with_unique_ids(found, name=name)


def _origins(columns: Mapping[str, str], present: Collection[str]) -> dict[str, str]:
    """Canonical column -> column in the source. A column that is mapped explicitly does not also serve under its own name."""
    taken = frozenset(columns.values())
    by_name = {column: column for column in CANONICAL if column in present and column not in taken}
    if "prompt" in columns and "messages" not in columns:
        by_name.pop("messages", None)
    if "messages" in columns and "prompt" not in columns:
        by_name.pop("prompt", None)
    return {**by_name, **columns}


def _check_mapped(columns: Mapping[str, str], present: Collection[str], *, name: str) -> None:
    for canonical, column in columns.items():
        if column not in present:
            raise DataError(
                f"{name} has no column {column!r}{nearest(column, present)}, which `columns` names as {canonical!r}. "
                f"Its columns are {', '.join(present)}."
            )


def _check_prompt(origin: Mapping[str, str], present: Collection[str], *, name: str) -> None:
    if "prompt" not in origin and "messages" not in origin:
        guess = nearest("prompt", present) or nearest("messages", present)
        raise DataError(
            f"{name} has neither a column 'prompt' nor 'messages'{guess}. Its columns are {', '.join(present)}. "
            'Say which one holds the prompt, for example columns={"prompt": "question"}.'
        )
    if "prompt" in origin and "messages" in origin:
        raise DataError(
            f"{name} has both {origin['prompt']!r} and {origin['messages']!r}, and only one can be the prompt. "
            'Choose with columns={"prompt": "prompt"} or columns={"messages": "messages"}; the other is passed on as it is.'
        )


def _check_required(
    column: str, rows: Sequence[Row], origin: Mapping[str, str], present: Collection[str], *, name: str
) -> None:
    sources = [origin[c] for c in ((column, "messages") if column in ("prompt", "response") else (column,)) if c in origin]
    if any(not _absent(row.get(source)) for row in rows for source in sources):
        return
    found = f"has the column {sources[0]!r}, but it is empty in every row" if sources else f"has no column {column!r}"
    raise DataError(
        f"{name} {found}{'' if sources else nearest(column, present)}, and this run needs it. "
        f'Its columns are {", ".join(present)}. If one of them is meant, say so with columns={{"{column}": "..."}}.'
    )


def _example(row: Row, origin: Mapping[str, str], consumed: frozenset[str], *, where: str, fallback_id: str) -> Example:
    values = {canonical: row.get(column) for canonical, column in origin.items()}
    prompt, response = _prompt_and_response(values, origin, where=where)
    texts = {column: _text(values.get(column), where=f"{where}, column {origin.get(column)!r}") for column in TEXTS}
    identity = _text(values.get("id"), where=f"{where}, column {origin.get('id')!r}")
    return Example(
        id=identity or fallback_id,
        prompt=prompt,
        response=response,
        finish_reason=_finish_reason(values.get("finish_reason"), where=f"{where}, column {origin.get('finish_reason')!r}"),
        extra={column: value for column, value in row.items() if column not in consumed and not _absent(value)},
        **texts,
    )


def _prompt_and_response(
    values: Mapping[str, Any], origin: Mapping[str, str], *, where: str
) -> tuple[str | tuple[Message, ...], str | None]:
    column = "prompt" if "prompt" in origin else "messages"
    value, at = values.get(column), f"{where}, column {origin[column]!r}"
    response = _response(values.get("response"), where=f"{where}, column {origin.get('response')!r}")
    if _absent(value):
        raise DataError(f"{at}: there is no prompt. Every row needs one; remove the row or fill it in.")
    if column == "messages":
        prompt, last = split_at_response(conversation(value, where=at), where=at)
        return prompt, response if response is not None else last
    if isinstance(value, list | tuple):
        turns = conversation(value, where=at)
        if turns[-1]["role"] == "assistant":
            raise DataError(
                f"{at}: the prompt ends with the assistant's turn, so nothing is left to write. "
                'Name the column as columns={"messages": ...}: its last assistant turn then becomes the response.'
            )
        return turns, response
    text = _text(value, where=at)
    if text is None or not text.strip():
        raise DataError(f"{at}: the prompt is blank. Every row needs one; remove the row or fill it in.")
    return text, response


def _response(value: Any, *, where: str) -> str | None:
    """A text, or a list of one assistant turn as conversational data sets write it."""
    if isinstance(value, list | tuple) and value:
        turns = conversation(value, where=where)
        if len(turns) != 1 or turns[0]["role"] != "assistant":
            raise DataError(
                f"{where}: a response is a text or one assistant turn, but these are {len(turns)} turns, the first by "
                f"{turns[0]['role']!r}. Whole conversations belong into a column named as `messages`."
            )
        value = turns[0]["content"]
    return _text(value, where=where)


def _finish_reason(value: Any, *, where: str) -> FinishReason | None:
    if _absent(value) or value in get_args(FinishReason):
        return None if _absent(value) else value
    raise DataError(
        f"{where}: a response ends by 'stop' (its writer ended it) or by 'length' (it was cut, so it gets no end of sequence), "
        f"found {value!r}. Filter such rows out, or map another column."
    )


def _text(value: Any, *, where: str) -> str | None:
    """A text; numbers are written out, because answers often stand in files as numbers."""
    if _absent(value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{where}: expected a text or a number, found {type(value).__name__} {str(value)[:60]!r}.")
    if not isinstance(value, str):
        return repr(value).removesuffix(".0")  # a column of whole numbers with gaps comes out of many writers as 72.0
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where}: the text holds half of a surrogate pair, which no tokenizer can read: mend it.")
    return value


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _with_unique_ids(examples: Sequence[Example], *, name: str) -> list[Example]:
    """Later rows with an id that was seen get `#2`, `#3` and so on: what is kept per example is found by its id."""
    given = {example.id for example in examples}
    if len(given) == len(examples):
        return list(examples)
    seen: set[str] = set()
    unique: list[Example] = []
    for example in examples:
        identity, number = example.id, 1
        while identity in seen or (number > 1 and identity in given):
            number += 1
            identity = f"{example.id}#{number}"
        seen.add(identity)
        unique.append(example if number == 1 else replace(example, id=identity))
    _LOG.warning(
        "%s: %d of %d rows share an id with an earlier row and were given new ones.",
        name,
        len(examples) - len(given),
        len(examples),
    )
    return unique
