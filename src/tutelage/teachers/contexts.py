"""What only the teacher reads: from a context part and an example to the teacher's prompt, with the reason why or why not."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from tutelage.errors import DataError
from tutelage.teachers.context_parts import (
    AttemptFeedback,
    Context,
    FirstAvailable,
    NoContext,
    PeerSolution,
    ReferenceSolution,
)
from tutelage.types import Example, Message, Rollout, Verdict

CountTokens = Callable[[str], int]
"""Length of a text in the teacher's tokens."""

CUT_MARK = "\n[...]\n"
"""Stands where the middle of a long reference was left out."""

UNCHANGED = "unchanged: no context asked for"

TEXTS = ("solution", "answer", "privileged_context")
"""Columns of references that an example has a field of the same name for; any other is looked up among its further ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextResult:
    """A teacher's prompt for one example."""

    prompt: str | tuple[Message, ...] | None
    """None where the example cannot be taught."""
    reason: str
    """`injected:...`, `skipped:...` or `unchanged:...`; what a histogram is made of."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attempt:
    """A response in its step: what contexts that depend on the step may look at."""

    verdict: Verdict
    """Of the response itself."""
    peers: Sequence[tuple[Rollout, Verdict]]
    """The other responses to the same prompt, beginning after it and going round."""


def attempts(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]) -> list[Attempt]:
    """Every response of a step with its peers."""
    groups: dict[int, list[int]] = {}
    for index, rollout in enumerate(rollouts):
        groups.setdefault(rollout.group, []).append(index)
    found: list[Attempt] = []
    for index, rollout in enumerate(rollouts):
        group = groups[rollout.group]
        place = group.index(index)
        peers = [(rollouts[other], verdicts[other]) for other in (*group[place + 1 :], *group[:place])]
        found.append(Attempt(verdict=verdicts[index], peers=peers))
    return found


def build(context: Context, example: Example, *, count_tokens: CountTokens, attempt: Attempt | None = None) -> ContextResult:
    """The prompt that the teacher reads for an example, or for one response to it.

    The question always stays whole; a reference longer than `max_context_tokens` loses its middle, so that both the set-up
    and the result remain.

    Args:
        context: What the teacher sees besides the prompt.
        example: A row of the data set. Nothing in it is treated as a template.
        count_tokens: Length of a text in the teacher's tokens.
        attempt: The response that is to be scored, for contexts that depend on the step; without one they are missing.

    Raises:
        DataError: The reference is missing and the context refuses that, or the conversation has no user turn of text to
            place it into.
    """
    match context:
        case NoContext():
            return ContextResult(prompt=example.prompt, reason=UNCHANGED)
        case ReferenceSolution(column=column):
            return _shown(context, example, reference_of(context, example), what=column, count_tokens=count_tokens)
        case PeerSolution():
            return _shown(context, example, _right_peer(context, attempt), what="right peer", count_tokens=count_tokens)
        case AttemptFeedback():
            said = attempt.verdict.feedback if attempt is not None else None
            return _shown(context, example, said, what="feedback", count_tokens=count_tokens)
        case FirstAvailable(contexts=contexts):
            tried = [build(part, example, count_tokens=count_tokens, attempt=attempt) for part in contexts]
            reasons = ", ".join(result.reason.removeprefix("skipped:") for result in tried)
            missing = ContextResult(prompt=None, reason=f"skipped:{reasons}")
            return next((result for result in tried if result.prompt is not None), missing)


def _shown(
    context: ReferenceSolution | PeerSolution | AttemptFeedback,
    example: Example,
    text: str | None,
    *,
    what: str,
    count_tokens: CountTokens,
) -> ContextResult:
    if not text or not text.strip():
        return ContextResult(prompt=None, reason=f"skipped:no {what}")
    kept = cut_middle(text, max_tokens=context.max_context_tokens, count_tokens=count_tokens)
    reason = f"injected:{what}" if kept == text else f"injected:{what}, cut in the middle"
    return ContextResult(prompt=_inject(context, example, kept), reason=reason)


def _right_peer(context: PeerSolution, attempt: Attempt | None) -> str | None:
    peers = attempt.peers if attempt is not None else ()
    text = next((rollout.text for rollout, verdict in peers if verdict.correct), None)
    return text if text is None or context.remove is None else re.sub(context.remove, "", text, flags=re.DOTALL)


def reference_of(context: ReferenceSolution, example: Example) -> str | None:
    """The text that a context shows for an example; None where the column is absent or blank.

    Raises:
        DataError: There is none, and the context refuses examples without.
    """
    reference = getattr(example, context.column) if context.column in TEXTS else example.extra.get(context.column)
    if isinstance(reference, str) and reference.strip():
        return reference[: ceil(context.share * len(reference))]
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


def _inject(
    context: ReferenceSolution | PeerSolution | AttemptFeedback, example: Example, reference: str
) -> str | tuple[Message, ...]:
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
