"""Where a response begins and ends on both sides: chat templates, their options, end-of-sequence and stop ids, padding."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.errors import PreflightError, nearest
from tutelage.models.language_model import LanguageModel
from tutelage.types import Example, Message

Render = Callable[[str | Sequence[Message]], Sequence[int]]
"""From a prompt to the ids that one side reads."""

THOUGHT_MARKS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
"""What opens and closes a reasoning block in the known chat templates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How responses end in a run."""

    stop_token_ids: frozenset[int]
    """Sampling stops at any of them."""
    end_token_id: int
    """What is appended to a data set's responses: the end that the teacher expects, where there is a teacher; the first of the
    ids that the user chose, where the teacher stops there as well."""
    notes: tuple[str, ...] = ()


def ending(student: LanguageModel, teacher: LanguageModel | None, *, chosen: Sequence[int] = ()) -> Ending:
    """Stop ids that suit both sides.

    Args:
        student: The student.
        teacher: The teacher; none, or the student itself, asks nothing.
        chosen: `stop_token_ids` as the user set them for the student; empty where they were not set.

    Raises:
        PreflightError: A side has no end of sequence, or the two end a response with different ids and the user has not
            said that this is meant.
    """
    own = end_of(student, chosen=chosen)
    if teacher is None or teacher is student:
        return Ending(stop_token_ids=student.stop_token_ids | {own}, end_token_id=own)
    theirs = end_of(teacher)
    end = own if chosen and own in teacher.stop_token_ids else theirs
    if own != end and theirs not in chosen:
        raise PreflightError(
            f"The student ends a response with {_name(student, own)}, the teacher with {_name(teacher, theirs)}. The teacher "
            "gives the student's end almost no probability, so the student would be taught never to stop while its other "
            "figures still improve. If the student is meant to learn the teacher's end, let it stop there too: "
            f"--student.stop-token-ids '[{theirs}]'. Otherwise pick a teacher and a student that both are base models or both "
            "are chat models of one family."
        )
    notes = list[str]()
    if theirs in chosen and student.tokenizer.eos_token_id not in (None, theirs):
        notes.append(f"The student stops at the teacher's end of sequence, {_name(teacher, theirs)}, as asked for.")
    if extra := sorted(student.stop_token_ids ^ teacher.stop_token_ids):
        names = ", ".join(_name(student, index) for index in extra)
        notes.append(f"Only one side lists {names} as a stop id; sampling stops at the ids of both.")
    union = student.stop_token_ids | teacher.stop_token_ids | {own, theirs}
    return Ending(stop_token_ids=union, end_token_id=end, notes=tuple(notes))


def end_of(model: LanguageModel, *, chosen: Sequence[int] = ()) -> int:
    """The id that ends a response: the chosen one, the tokenizer's end of sequence, or the only stop id."""
    if chosen:
        return chosen[0]
    if model.tokenizer.eos_token_id is not None:
        return int(model.tokenizer.eos_token_id)
    if len(model.stop_token_ids) == 1:
        return next(iter(model.stop_token_ids))
    raise PreflightError(
        f"Model {model.name!r} does not say what ends a response: its tokenizer has no eos_token, and its configuration lists "
        f"the stop ids {sorted(model.stop_token_ids)}. Without an end every response runs to the limit. Set eos_token in "
        "tokenizer_config.json, or name the id: --student.stop-token-ids '[ID]'."
    )


def mend_padding(student: LanguageModel, teacher: LanguageModel | None, *, stops: frozenset[int]) -> tuple[str, ...]:
    """Give a student without a padding token one that ends nothing; says so.

    Within a run padding is marked by masks and never by its id; the token matters to whoever loads the trained student.
    """
    tokenizer = student.tokenizer
    if tokenizer.pad_token_id is not None:
        return ()
    candidates = [teacher.tokenizer.pad_token if teacher else None, tokenizer.unk_token]
    vocab = tokenizer.get_vocab()
    for token in candidates:
        if token in vocab and vocab[token] not in stops:
            tokenizer.pad_token = token
            return (f"The student's tokenizer has no padding token; it gets {token!r}, which ends nothing.",)
    return (
        "The student's tokenizer has no padding token and none that could serve as one without ending a response; batches are "
        "masked, so training does not need it.",
    )


def mend_templates(student: LanguageModel, teacher: LanguageModel) -> tuple[str, ...]:
    """Where one side has no chat template, let it read the other's, so that both see the same format; says so.

    A template on one side only would make the divergence measure the format.
    """
    if student is teacher or (student.tokenizer.chat_template is None) == (teacher.tokenizer.chat_template is None):
        return ()
    if student.tokenizer.chat_template is None:
        student.tokenizer.chat_template = teacher.tokenizer.chat_template
        return ("The student has no chat template; it reads, and is saved with, the teacher's.",)
    teacher.tokenizer.chat_template = student.tokenizer.chat_template
    return (
        "The teacher has no chat template (is it a base model?); it reads conversations in the student's, which it may never "
        "have seen.",
    )


def require_known_options(model: LanguageModel, options: Mapping[str, Any], *, setting: str) -> None:
    """Refuse a template option that the chat template never mentions: it would silently do nothing.

    Raises:
        PreflightError: With the nearest name that the template does mention.
    """
    template = model.tokenizer.chat_template
    words = set(re.findall(r"[A-Za-z_]\w*", template if isinstance(template, str) else ""))
    for option in options:
        if option not in words:
            raise PreflightError(
                f"{setting} sets {option!r}{nearest(option, words)}, but the chat template of {model.name!r} never mentions "
                "it, so it would have no effect. Remove it, or name one that the template reads."
            )


def compare_prompts(
    examples: Sequence[Example], *, models: tuple[LanguageModel, LanguageModel], render: tuple[Render, Render], meant: bool
) -> tuple[str, ...]:
    """What differs between the formats that the two sides read around the same prompts.

    Args:
        examples: Prompts of the run.
        models: Student and teacher.
        render: The student's and the teacher's way from a prompt to ids, without any privileged context.
        meant: The user set the teacher's template options differently, so a difference is asked for.

    Returns:
        One note with the first difference, or nothing where both read the same.

    Raises:
        PreflightError: One side's prompt ends inside or after a reasoning block and the other's does not, and nobody asked
            for that.
    """
    for example in examples:
        ours, theirs = list(render[0](example.prompt)), list(render[1](example.prompt))
        if ours == theirs:
            continue
        own_text, other_text = models[0].tokenizer.decode(ours), models[1].tokenizer.decode(theirs)
        states = thought_state(own_text, question_of(example)), thought_state(other_text, question_of(example))
        if states[0] != states[1] and not meant:
            raise PreflightError(
                f"The prompts end differently: before a response the student's reasoning is {states[0]}, the teacher's is "
                f"{states[1]} (the student reads ...{own_text[-40:]!r}, the teacher ...{other_text[-40:]!r}). Every first "
                "token would be scored for its format. Give both sides the same template options (--student.template-options, "
                "--recipe.teacher.template-options); setting the teacher's option says that the difference is meant."
            )
        return (f"Both sides read their own format around a prompt; {_difference(own_text, other_text)}.",)
    return ()


def question_of(example: Example) -> str:
    """The text that ends the prompt: a plain prompt, or the content of the last turn."""
    content = example.prompt if isinstance(example.prompt, str) else example.prompt[-1].get("content")
    return content if isinstance(content, str) else ""


def thought_state(text: str, question: str) -> str:
    """Whether a rendered prompt leaves a reasoning block `open`, `closed`, or has `not begun` one after the question."""
    tail = text[text.rfind(question[-20:]) + len(question[-20:]) :] if question else text[-200:]
    for opening, closing in THOUGHT_MARKS:
        if tail.count(opening) > tail.count(closing):
            return "open"
        if closing in tail:
            return "closed"
    return "not begun"


def _difference(own: str, other: str) -> str:
    start = next((place for place, pair in enumerate(zip(own, other, strict=False)) if pair[0] != pair[1]), None)
    if start is None:
        start = min(len(own), len(other))
    ours, theirs = own[start : start + 40], other[start : start + 40]
    return f"they part at character {start}: the student reads {ours!r}, the teacher {theirs!r}"


def _name(model: LanguageModel, index: int) -> str:
    return f"{index} ({model.tokenizer.convert_ids_to_tokens(index)!r})"
