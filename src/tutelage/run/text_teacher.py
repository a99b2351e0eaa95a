"""A teacher that only writes: its responses become a data file, which every recipe that reads responses can be trained on.

Text is all that such a teacher gives, so nothing of it is wanted again while a student learns: the responses are written once,
can be looked at, and are rendered with the student's own template and tokenizer when they are read.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tutelage import data
from tutelage.data import DataSource
from tutelage.data.columns import TEXTS
from tutelage.errors import CheckpointError, ConfigError, DataError
from tutelage.serving.endpoint import TextEndpoint, open_endpoint
from tutelage.serving.text import Answer
from tutelage.tracking.files import write_text
from tutelage.types import Example

_BLOCK = 64
"""Responses between two words about the progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTeacher:
    """Another model behind a chat endpoint, and how it writes."""

    kind: Literal["text"] = "text"
    endpoint: TextEndpoint = TextEndpoint()
    """Where it is, what it costs, and where its answers are kept."""
    system: str = ""
    """Turn before each prompt that only the teacher reads; empty adds none."""
    n: int = 1
    """Responses to each prompt."""
    temperature: float = 0.0
    """0 takes the likeliest words; several responses to a prompt need more."""
    max_tokens: int = 1024
    """Longest response in the teacher's tokens. A longer one is cut, and gets no end of sequence where it is trained on."""
    seed: int = 0
    """Of the first response to each prompt; the next ones have the seeds that follow."""

    def __post_init__(self) -> None:
        if min(self.n, self.max_tokens) < 1 or self.temperature < 0.0:
            raise ConfigError(f"TextTeacher needs n and max_tokens >= 1 and temperature >= 0, got {self}.")
        if self.n > 1 and self.temperature == 0.0:
            raise ConfigError(
                f"TextTeacher writes n = {self.n} responses to each prompt at temperature 0, which are all the same. Set a "
                "temperature, or write one."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What was written."""

    file: str
    """The data file."""
    responses: int
    """Its rows."""
    cut: int
    """Of them those that reached the limit of their length."""
    prompt_tokens: int
    """That the endpoint counted now; what a recording answered costs none."""
    completion_tokens: int
    """The same of what was written."""
    cost: float
    """Of both, in the currency of the prices."""


def write_responses(
    source: DataSource, teacher: TextTeacher, output: Path, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Written:
    """Have a teacher respond to every prompt of a source, and write a data file with its responses.

    Args:
        source: Prompts; all of their columns but `response` and `finish_reason` are kept.
        teacher: Who writes. Without a recording its answers are kept beside the output, so that an interruption costs nothing.
        output: A `.jsonl` file that does not exist yet; it appears when it is whole.
        progress: Told how many responses are there, of how many.

    Raises:
        ConfigError: The output exists or is of another kind; the endpoint is not named.
        DataError: The prompts cannot be read; one has a system turn of its own besides the teacher's.
        ServerError: The endpoint fails or refuses, or has cost what it may.
    """
    if output.suffix != ".jsonl" or output.exists():
        raise ConfigError(
            f"Responses are written to a new .jsonl file, and {str(output)!r} "
            f"{'exists' if output.exists() else 'ends otherwise'}. Name another one."
        )
    recording = teacher.endpoint.recording or beside(output)
    client = open_endpoint(replace(teacher.endpoint, recording=recording), setting="--teacher-")
    examples = [example for example in data.load(source) for _ in range(teacher.n)]
    numbers = [number for _ in range(len(examples) // teacher.n) for number in range(teacher.n)]
    rows = list[dict[str, Any]]()
    for start in range(0, len(examples), _BLOCK):
        block = examples[start : start + _BLOCK]
        answers = client.ask(
            [_talk(example, teacher.system) for example in block],
            max_tokens=teacher.max_tokens,
            temperature=teacher.temperature,
            seeds=[teacher.seed + number for number in numbers[start : start + _BLOCK]],
            names=[f"the prompt of {example.id!r}" for example in block],
        )
        rows += [_row(*one) for one in zip(block, numbers[start : start + _BLOCK], answers, strict=True)]
        progress(len(rows), len(examples))
    _write(rows, output)
    used = client.used
    return Written(
        file=str(output),
        responses=len(rows),
        cut=sum(row["finish_reason"] == "length" for row in rows),
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cost=client.cost,
    )


def beside(output: Path) -> str:
    """Where answers are kept, unless something else is said."""
    return str(output.with_suffix(".answers.jsonl"))


def _talk(example: Example, system: str) -> Sequence[Mapping[str, Any]]:
    turns = [{"role": "user", "content": example.prompt}] if isinstance(example.prompt, str) else list(example.prompt)
    if not system:
        return turns
    if turns[0].get("role") == "system":
        raise DataError(
            f"The prompt of {example.id!r} begins with a system turn, and the teacher is to read another one before it. "
            "Leave the teacher's out (--system), or take the prompts' away."
        )
    return [{"role": "system", "content": system}, *turns]


def _row(example: Example, number: int, answer: Answer) -> dict[str, Any]:
    """Under canonical names, so that it is read without a mapping."""
    texts = {column: getattr(example, column) for column in TEXTS}
    return {
        **example.extra,
        "id": example.id if number == 0 else f"{example.id}#{number + 1}",
        "prompt": example.prompt if isinstance(example.prompt, str) else [dict(turn) for turn in example.prompt],
        **{column: text for column, text in texts.items() if text is not None},
        "response": answer.text,
        "finish_reason": answer.finish,
    }


def _write(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    content = "".join(json.dumps(row, default=str) + "\n" for row in rows)
    try:
        write_text(output, content)
    except CheckpointError as error:
        raise DataError(
            f"{str(output)!r} cannot be written: {error.__cause__}. The answers are kept: make room and start again, and none "
            "is asked for twice."
        ) from error
