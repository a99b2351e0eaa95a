"""Walking through a value that is made of parts."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast


def parts(part: Any) -> Iterator[Any]:
    """A value, and everything in it: entries of tuples, values of mappings, fields of dataclasses, at any depth."""
    yield part
    if isinstance(part, tuple):
        for entry in cast(tuple[Any, ...], part):
            yield from parts(entry)
    elif isinstance(part, Mapping):
        for entry in cast(Mapping[Any, Any], part).values():
            yield from parts(entry)
    elif is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            yield from parts(getattr(part, field.name))
