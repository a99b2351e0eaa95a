"""Before any step: do student, teacher, recipe and data fit together? What is safe is mended and said, the rest refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.errors import DataError, PreflightError
from tutelage.models.chat import Wrap, render
from tutelage.models.language_model import LanguageModel
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import DatasetRollouts
from tutelage.run import formats
from tutelage.run.recipe_checks import check_data, check_recipe, check_vocabulary, response_column, response_limit
from tutelage.run.vocabularies import shared_ids, size_of
from tutelage.teachers import template_options
from tutelage.teachers.contexts import build
from tutelage.teachers.parts import NoContext
from tutelage.types import Example, Message

NUM_PROMPTS_READ = 64
"""Prompts that are rendered and tokenised on both sides: the first ones, and as many of the longest."""

__all__ = ["PreflightReport", "check_data", "check_pair", "check_recipe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreflightReport:
    """What a run may rely on."""

    notes: tuple[str, ...]
    """What was mended, and what is allowed but worth knowing; one sentence each."""
    vocab: int
    """Ids that student and teacher share: both heads are cut to them, and no other id is sampled."""
    stop_token_ids: frozenset[int]
    """Sampling stops at any of them."""
    end_token_id: int
    """Appended to a data set's responses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """A model with its way of reading prompts."""

    model: LanguageModel
    options: Mapping[str, Any]
    wrap: Wrap

    def read(self, prompt: str | Sequence[Message]) -> list[int]:
        ids = render(self.model.tokenizer, prompt, options=self.options, wrap=self.wrap)
        if beyond := [index for index in ids if index >= self.model.vocab_size]:
            raise PreflightError(
                f"A prompt holds the token {self.model.tokenizer.convert_ids_to_tokens(beyond[0])!r} with id {beyond[0]}, but "
                f"{self.model.name!r} has only {self.model.vocab_size} rows: its tokenizer belongs to other weights. Put the "
                "tokenizer files of the model into its folder, or resize the model's embedding."
            )
        return ids

    def count_tokens(self, text: str) -> int:
        return len(self.model.tokenizer(text, add_special_tokens=False)["input_ids"])


def check_pair(
    recipe: Recipe,
    examples: Sequence[Example],
    *,
    student: LanguageModel,
    teacher: LanguageModel | None = None,
    stop_token_ids: Sequence[int] = (),
    wrap: Wrap = "auto",
) -> PreflightReport:
    """Whether a student can learn from its teacher on these prompts.

    Mends in memory, on the models' tokenizers: a missing padding token, a chat template that one side lacks.

    Args:
        recipe: The method.
        examples: The run's data.
        student: The student, loaded.
        teacher: The teacher model, loaded; none where the recipe has none or the student teaches itself.
        stop_token_ids: The student's stop ids as the user chose them; empty where the model's own are used.
        wrap: When a plain-text prompt becomes a user turn.

    Raises:
        PreflightError: The two do not fit; the message says why and what to do.
        DataError: A prompt leaves no room for a response.
    """
    ours = _Side(model=student, options=student.template_options, wrap=wrap)
    theirs = _Side(model=teacher or student, options=template_options(recipe.teacher, student.template_options), wrap=wrap)
    prompts = _chosen(examples)
    stop = formats.ending(student, teacher, chosen=stop_token_ids)
    vocab, notes = _check_tokenizers(student, teacher, prompts)
    _require_scored_responses(recipe, examples, student, vocab=vocab)
    _require_inside((stop.end_token_id, *stop_token_ids), vocab)
    check_vocabulary(recipe, vocab)
    notes += [
        *stop.notes,
        *formats.mend_padding(student, teacher, stops=stop.stop_token_ids),
        *_check_formats(recipe, prompts, ours, theirs),
    ]
    _require_room(recipe, prompts, ours)  # after the formats, which may lend the student a template
    notes += _check_teacher_window(recipe, prompts, theirs)
    stops = frozenset(index for index in stop.stop_token_ids if index < vocab)
    return PreflightReport(notes=tuple(notes), vocab=vocab, stop_token_ids=stops, end_token_id=stop.end_token_id)


def _chosen(examples: Sequence[Example]) -> list[Example]:
    longest = sorted(examples, key=lambda example: -_characters(example))[:NUM_PROMPTS_READ]
    return list({example.id: example for example in (*examples[:NUM_PROMPTS_READ], *longest)}.values())


def _characters(example: Example) -> int:
    if isinstance(example.prompt, str):
        return len(example.prompt)
    return sum(len(str(message.get("content", ""))) for message in example.prompt)


def _check_tokenizers(
    student: LanguageModel, teacher: LanguageModel | None, examples: Sequence[Example]
) -> tuple[int, list[str]]:
    notes = list[str]()
    models = (student,) if teacher is None or teacher is student else (student, teacher)
    known = size_of(student.tokenizer)
    if len(models) == 2:
        texts = [text for example in examples for text in (formats.question_of(example), example.response, example.solution)]
        shared = shared_ids(student.tokenizer, models[1].tokenizer, texts=[text for text in texts if text])
        known = shared.count
        if shared.left_out:
            shown = ", ".join(shared.left_out[:8]) + (", ..." if len(shared.left_out) > 8 else "")
            notes.append(
                f"{len(shared.left_out)} added tokens are not the same on both sides ({shown}); no response can contain them, "
                "and what the teacher would give them goes to the others."
            )
    vocab = min(known, *(model.vocab_size for model in models))
    if any(model.vocab_size > vocab for model in models):
        sizes = ", ".join(f"{model.vocab_size} rows in {model.name!r}" for model in models)
        notes.append(f"The heads are cut to the first {vocab} ids ({sizes}): the others have no token that all sides share.")
    return vocab, notes


def _require_scored_responses(recipe: Recipe, examples: Sequence[Example], student: LanguageModel, *, vocab: int) -> None:
    column = response_column(recipe.rollouts)
    unscored = [token for token, index in student.tokenizer.get_vocab().items() if index >= vocab]
    if column is None or not unscored:
        return
    for example in examples:
        response = (example.response if column == "response" else example.solution) or ""
        if found := [token for token in unscored if token in response]:
            raise PreflightError(
                f"The {column} of example {example.id!r} holds {found[0]!r}, which lies outside the {vocab} ids that student "
                "and teacher share, so nobody can score it. Take such markers out of the responses, or pick a teacher with the "
                "student's tokenizer."
            )


def _require_inside(ids: Sequence[int], vocab: int) -> None:
    if outside := sorted(index for index in ids if not 0 <= index < vocab):
        raise PreflightError(
            f"The stop ids {outside} lie outside the {vocab} ids that student and teacher share, so no response could ever end "
            "with them. Choose stop ids that both sides have: --student.stop-token-ids."
        )


def _check_formats(recipe: Recipe, examples: Sequence[Example], ours: _Side, theirs: _Side) -> list[str]:
    notes = list[str]()
    own_options = recipe.teacher.template_options if recipe.teacher is not None else {}
    if ours.wrap == "always" or any(not isinstance(example.prompt, str) for example in examples):
        notes += formats.mend_templates(ours.model, theirs.model)
        formats.require_known_options(ours.model, ours.options, setting="--student.template-options")
        formats.require_known_options(theirs.model, own_options, setting="--recipe.teacher.template-options")
    elif ours.options or own_options:
        raise PreflightError(
            f"Template options are set ({sorted({*ours.options, *own_options})}), but every prompt is plain text, which no "
            "chat template is applied to. Remove them, or give the prompts as messages (--wrap-prompts always makes "
            "each one a user turn)."
        )
    elif ours.model.tokenizer.chat_template is not None:
        notes.append("The prompts are plain text, so the student's chat template is not used (--wrap-prompts always uses it).")
    if recipe.teacher is not None:
        notes += formats.compare_prompts(
            examples,
            models=(ours.model, theirs.model),
            render=(ours.read, theirs.read),
            meant=any(ours.options.get(name) != value for name, value in theirs.options.items()),
        )
    return notes


def _require_room(recipe: Recipe, examples: Sequence[Example], side: _Side) -> None:
    window = side.model.max_context
    if window is None:
        return
    for example in examples:
        length, room = len(side.read(example.prompt)), _room(recipe, example, side)
        if length >= window:
            raise DataError(
                f"The prompt of example {example.id!r} has {length} tokens, and {side.model.name!r} reads at most {window}: "
                "there is no room for a response. Drop the example or shorten its prompt."
            )
        if length + room > window:
            raise PreflightError(
                f"The prompt of example {example.id!r} has {length} tokens and a response may take {room}, but "
                f"{side.model.name!r} reads at most {window}. Lower the length of a response to {window - length}, or drop "
                "long prompts."
            )


def _check_teacher_window(recipe: Recipe, examples: Sequence[Example], side: _Side) -> list[str]:
    window = side.model.max_context
    if recipe.teacher is None or window is None:
        return []
    prompts = [(example, build(recipe.teacher.context, example, count_tokens=side.count_tokens).prompt) for example in examples]
    lengths = [
        (len(side.read(prompt)) + _room(recipe, example, side), example) for example, prompt in prompts if prompt is not None
    ]
    over = [(length, example) for length, example in lengths if length > window]
    if not over:
        return []
    length, example = max(over, key=lambda pair: pair[0])
    found = (
        f"{len(over)} of the {len(lengths)} prompts that were read do not fit into the {window} tokens that the teacher "
        f"{side.model.name!r} reads, with a response of full length: example {example.id!r} may take {length}."
    )
    if len(over) == len(lengths) or isinstance(recipe.teacher.context, NoContext):
        raise PreflightError(
            f"{found} What the teacher cannot read it cannot score. Lower the length of a response, shorten the context "
            "(--recipe.teacher.context.max-context-tokens), or pick a teacher that reads more."
        )
    return [f"{found} Rollouts that grow too long teach nothing and are dropped."]


def _room(recipe: Recipe, example: Example, side: _Side) -> int:
    limit = response_limit(recipe.rollouts)
    if not isinstance(recipe.rollouts, DatasetRollouts):
        return limit
    response = example.response if recipe.rollouts.column == "response" else example.solution
    return min(limit, side.count_tokens(response or "") + 1)
