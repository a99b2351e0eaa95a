"""Whether a server and this process mean the same by the same ids, and what a server is asked about to know it again."""

from typing import Any

from tutelage.errors import PreflightError
from tutelage.serving.vllm import VLLM

CANARY = "Hello world! It's 3.14159 + 2,718,281 = ?"
PROBES = (CANARY, "def f(x):\n    return [i ** 2]\n\n", "naïve café, 日本語, Привет 🙂", r"$\frac{a+b}{c}$ \boxed{42}")
"""Texts that are tokenized here and there."""


def canary_ids(tokenizer: Any, *, vocab: int, most: int) -> list[int]:
    """A few tokens of plain text below `vocab`; the first ids of all where the tokenizer has too few for it."""
    ids = [index for index in tokenizer(CANARY, add_special_tokens=False)["input_ids"] if index < vocab]
    return (ids if len(ids) > 1 else list(range(min(vocab, 16))))[:most]


def require_same_tokenizer(client: VLLM, tokenizer: Any, *, name: str, option: str) -> None:
    """Refuse a server that cuts texts into other tokens.

    Args:
        client: Of the server; one that does not tokenize for others is not asked.
        tokenizer: Of the folder that the server is said to serve.
        name: That folder, for messages.
        option: The flag that names it.

    Raises:
        PreflightError: With a text that is cut differently.
    """
    for text in PROBES:
        here, there = list(tokenizer(text, add_special_tokens=False)["input_ids"]), client.tokenize(text)
        if there is not None and there != here:
            raise PreflightError(
                f"The server of {client.name!r} cuts {text!r} into {there[:8]}..., and the tokenizer in {name!r} into "
                f"{here[:8]}...: the server serves another model than the one that was named. Name the served model's own "
                f"folder or hub id: {option}."
            )
