"""Which token ids mean the same on both sides. Tokenizers are compared by content: two of one size may differ in every id.

A teacher's and a student's distribution are compared entry by entry, so an entry must be the same piece of text for both, and
a text must fall into the same pieces, or the teacher scores sequences that it would never write.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tutelage.errors import PreflightError

PROBES = (
    "Hello world! It's 3.14159 + 2,718,281 = ?",
    "def f(x):\n    return [i ** 2 for i in range(x)]\n\n\tif True:",
    "  two  blanks,\r\nnew lines\n\n\nand trailing  ",
    "Überraschung: naïve café, Straße, ½ and “quotes”…",
    "日本語の文章と中文文本、한국어 문장。",
    "Привет мир, مرحبا بالعالم, नमस्ते दुनिया 🙂👩‍👩‍👧",
    r"$\frac{a+b}{c} \leq \sqrt{2}$ \boxed{42}",
)
"""Texts on which tokenizers of different make usually differ: digits, code, white space, accents, scripts, mathematics."""

NUM_PIECES_PROBED = 2048
"""Entries of the vocabulary that are tokenised on both sides, evenly spaced: what shows merges that differ."""


@runtime_checkable
class Tokenizer(Protocol):
    """What is asked of a tokenizer here."""

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id, added ones included."""
        ...

    def get_added_vocab(self) -> dict[str, int]:
        """Tokens that were added to the trained vocabulary: markers, mostly."""
        ...

    def decode(self, token_ids: Any) -> Any:
        """Text of ids."""
        ...

    def __call__(self, text: Any, *, add_special_tokens: bool) -> Any:
        """Ids of a text, under `input_ids`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedIds:
    """The ids from 0 on that both sides agree on."""

    count: int
    """Heads are cut to this many rows before any softmax."""
    left_out: tuple[str, ...]
    """Added tokens, of either side, that lie outside: no response can contain them."""


def size_of(tokenizer: Tokenizer) -> int:
    """One more than the largest id that has a token."""
    return max(tokenizer.get_vocab().values()) + 1


def shared_ids(student: Tokenizer, teacher: Tokenizer, *, texts: Iterable[str] = ()) -> SharedIds:
    """The ids that both tokenizers agree on, if they are of the same make.

    Two tokenizers are, if they agree up to some id, only added tokens lie beyond it, and texts fall into the same pieces.

    Args:
        student: The student's.
        teacher: The teacher's.
        texts: Texts of the run, which are tokenised on both sides beside built-in probes.

    Raises:
        PreflightError: They are not; the message shows ids that differ and a text that is tokenised differently.
    """
    texts = [*texts, *PROBES]
    own = {index: token for token, index in student.get_vocab().items()}
    theirs = {index: token for token, index in teacher.get_vocab().items()}
    everything = sorted(own.keys() | theirs.keys())
    differing = [index for index in everything if own.get(index) != theirs.get(index)]
    count = differing[0] if differing else everything[-1] + 1
    added = student.get_added_vocab().keys() | teacher.get_added_vocab().keys()
    outside = [(index, token) for side in (own, theirs) for index, token in side.items() if index >= count]
    beyond = dict.fromkeys(token for _, token in sorted(outside))
    if not added >= beyond.keys():
        raise PreflightError(_different(own, theirs, differing, _first_difference(student, teacher, texts)))
    pieces = _pieces(student, [index for index in everything if index < count])
    texts = [text for text in (*texts, *pieces) if not any(token in text for token in beyond)]
    if (found := _first_difference(student, teacher, texts)) is not None:
        raise PreflightError(
            "Student and teacher name the same ids alike but cut texts differently: "
            f"{found} The teacher would score sequences of pieces that it never writes, and its log-probabilities would say "
            "nothing about the text. Give both models the same tokenizer files, or pick a teacher of the student's family."
        )
    return SharedIds(count=count, left_out=tuple(beyond))


def _pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    spaced = ids[:: max(1, len(ids) // NUM_PIECES_PROBED)]
    return [text for text in (tokenizer.decode([index]) for index in spaced) if text and "\ufffd" not in text]


def _first_difference(student: Tokenizer, teacher: Tokenizer, texts: Sequence[str]) -> str | None:
    for text, own, other in zip(texts, _encoded(student, texts), _encoded(teacher, texts), strict=True):
        if own != other:
            return _shown(text, own, other)
    return None


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text; none where the tokenizer has no ids for it, as one without an unknown token."""
    try:
        return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    except Exception:  # tokenizers raises nothing narrower
        if len(texts) == 1:
            return [[]]
        return [ids for text in texts for ids in _encoded(tokenizer, [text])]


def _shown(text: str, own: list[int], other: list[int]) -> str:
    start = next((place for place, pair in enumerate(zip(own, other, strict=False)) if pair[0] != pair[1]), 0)
    excerpt = text if len(text) <= 60 else text[:60] + "..."
    return (
        f"{excerpt!r} differs from token {start} on: the student has {own[start : start + 6]}, the teacher "
        f"{other[start : start + 6]}."
    )


def _different(own: Mapping[int, str], theirs: Mapping[int, str], differing: Sequence[int], found: str | None) -> str:
    examples = ", ".join(f"{index} is {own.get(index)!r} and {theirs.get(index)!r}" for index in differing[:3])
    return (
        f"Student and teacher have different tokenizers ({len(own)} and {len(theirs)} tokens): {len(differing)} ids differ, "
        f"for example {examples}. {found or ''} The two distributions are compared id by id, which has no meaning here. Pick a "
        "teacher of the student's family, or train on texts that the teacher wrote: write them to a file and use the recipe "
        "`sft` on it."
    )
