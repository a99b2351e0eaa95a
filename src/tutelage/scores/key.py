"""Under what a teacher's scores of one response are kept: whatever decides them, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np

from tutelage.errors import ConfigError

KEY_BYTES = 16
"""Length of a key: among a billion responses two share one with a probability of 1e-21."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """How much of a teacher's distribution is kept per token."""

    kind: Literal["sampled", "top_k", "hidden"]
    """The log-probability of the written token; also those of the likeliest entries; or the states that enter the head."""
    k: int = 0
    """Entries of `top_k`; 0 for the others."""

    def __post_init__(self) -> None:
        if (self.k < 1) == (self.kind == "top_k"):
            raise ConfigError(
                f"A request for {self.kind!r} scores has k = {self.k!r}: `top_k` needs k >= 1, the others have 0."
            )

    @property
    def name(self) -> str:
        """For people and files: `sampled`, `top_k-32`, `hidden`."""
        return f"{self.kind}-{self.k}" if self.k else self.kind


def key_of(
    teacher: str,
    request: Request,
    *,
    vocab: int,
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    positions: Sequence[int],
) -> bytes:
    """The key of one response.

    Args:
        teacher: Fingerprint of whose scores they are.
        request: What was asked.
        vocab: Ids over which the teacher's softmax runs.
        prompt_ids: What the teacher read before the response, its own context included.
        response_ids: The response as it was sampled.
        positions: Of the response's tokens that were scored.
    """
    read = blake2b(f"{teacher} {request.name} {vocab}".encode(), digest_size=KEY_BYTES)
    for ids in (prompt_ids, response_ids, positions):
        values = np.asarray(ids, dtype="<i8")
        read.update(len(values).to_bytes(8, "little") + values.tobytes())
    return read.digest()
