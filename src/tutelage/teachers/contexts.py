"""What only the teacher reads: from a context part and an example to the teacher's prompt, with the reason why or why not."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tutelage.errors import DataError
from tutelage.teachers.parts import Context, NoContext, ReferenceSolution
from tutelage.types import Example, Message

CountTokens = Callable[[str], int]
"""Length of a text in the teacher's tokens."""

CUT_MARK = "\n[...]\n"
"""Stands where the middle of a long reference was left out."""

UNCHANGED = "unchanged: no context asked for"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextResult:
    """A teacher's prompt for one example."""

    prompt: str | tuple[Message, ...] | None
    """None where the example cannot be taught."""
    reason: str
    """`injected:...`, `skipped:...` or `unchanged:...`; what a histogram is made of."""


def build(context: Context, example: Example, *, count_tokens: CountTokens) -> ContextResult:
    """The prompt that the teacher reads for an example.

    The question always stays whole; a reference longer than `max_context_tokens` loses its middle, so that both the set-up
    and the result remain.

    Args:
        context: What the teacher sees besides the prompt.
        example: A row of the data set. Nothing in it is treated as a template.
        count_tokens: Length of a text in the teacher's tokens.

    Raises:
        DataError: The reference is missing and the context refuses that, or the conversation has no user turn of text to
            place it into.
    """
    match context:
        case NoContext():
            return ContextResult(prompt=example.prompt, reason=UNCHANGED)
        case ReferenceSolution():
            reference = reference_of(context, example)
            if not reference:
                return ContextResult(prompt=None, reason=f"skipped:no {context.column}")
            kept = cut_middle(reference, max_tokens=context.max_context_tokens, count_tokens=count_tokens)
            reason = f"injected:{context.column}" if kept == reference else f"injected:{context.column}, cut in the middle"
            return ContextResult(prompt=_inject(context, example, kept), reason=reason)


def reference_of(context: ReferenceSolution, example: Example) -> str | None:
    """The text that a context shows for an example; None where the column is absent or blank.

    Raises:
        DataError: There is none, and the context refuses examples without.
    """
    match context.column:
        case "solution":
            reference = example.solution
        case "answer":
            reference = example.answer
        case "privileged_context":
            reference = example.privileged_context
    if reference and reference.strip():
        return reference
    if context.missing == "refuse":
        raise DataError(
            f"Example {example.id!r} has no {context.column!r}, which the teacher's context shows; without it the teacher "
            "would know no more than the student. Fill the column, drop the example, or let such examples teach nothing: "
            "--recipe.teacher.context.missing skip."
        )
    return None


def cut_middle(text: str, *, max_tokens: int, count_tokens: CountTokens) -> str:
    """The text's beginning and end, as much as fits into `max_tokens` together with a mark between them.

    Cuts fall between characters, never inside one. 0 never cuts.
    """
    if not max_tokens or count_tokens(text) <= max_tokens:
        return text
    fits, too_many = 0, len(text)
    while too_many - fits > 1:
        half = (fits + too_many) // 2
        if count_tokens(_ends(text, half)) <= max_tokens:
            fits = half
        else:
            too_many = half
    return _ends(text, fits)


def histogram(reasons: Iterable[str]) -> str:
    """Reasons with their counts, most frequent first, for people."""
    return ", ".join(f"{reason} ({count})" for reason, count in Counter(reasons).most_common())


def _ends(text: str, characters: int) -> str:
    tail = characters // 2
    return text[: characters - tail] + CUT_MARK + text[len(text) - tail :]


def _fill(template: str, *, prompt: str, context: str) -> str:
    values = {"prompt": prompt, "context": context}  # one pass, so that braces in the data stay what they are
    return re.sub(r"\{(prompt|context)\}", lambda found: values[found[1]], template)


def _inject(context: ReferenceSolution, example: Example, reference: str) -> str | tuple[Message, ...]:
    if isinstance(example.prompt, str):
        return _fill(context.plain_template, prompt=example.prompt, context=reference)
    turns = [index for index, message in enumerate(example.prompt) if message.get("role") == "user"]
    question = example.prompt[turns[-1]].get("content") if turns else None
    if not isinstance(question, str):
        roles = [message.get("role") for message in example.prompt]
        raise DataError(
            f"Example {example.id!r} has no user turn whose content is text (roles: {roles}), so there is no place for the "
            "teacher's context. Give the conversation a user turn, or the prompt as plain text."
        )
    filled = {**example.prompt[turns[-1]], "content": _fill(context.template, prompt=question, context=reference)}
    return (*example.prompt[: turns[-1]], filled, *example.prompt[turns[-1] + 1 :])
