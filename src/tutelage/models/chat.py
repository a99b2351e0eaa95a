"""From a prompt to token ids, through the model's own chat template where the prompt is a conversation.

Templates are programs that lie beside the weights. They are rendered by the tokenizer in a sandboxed Jinja environment.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jinja2 import TemplateError

from tutelage.errors import DataError, ModelError
from tutelage.types import Message

Wrap = Literal["auto", "always", "never"]
"""Whether a plain string becomes a user turn: `auto` and `never` leave it as it is, `always` wraps it."""


def render(
    tokenizer: Any, prompt: str | Sequence[Message], *, options: Mapping[str, Any] | None = None, wrap: Wrap = "auto"
) -> list[int]:
    """The ids that a model reads before it responds.

    Args:
        tokenizer: A transformers tokenizer.
        prompt: Plain text, taken as it is; or a conversation, rendered by the chat template with the response's opening.
        options: Passed to the template.
        wrap: What to do with plain text.

    Raises:
        ModelError: The prompt is a conversation and the tokenizer has no chat template, or the template fails.
        DataError: The tokenizer has no ids for a character and no unknown token.
    """
    if isinstance(prompt, str):
        if wrap != "always":
            ids = _encode(tokenizer, prompt, add_special_tokens=True)
            ends = bool(ids) and ids[-1] == tokenizer.eos_token_id and ids[-1] != tokenizer.bos_token_id
            return ids[:-1] if ends else ids
        prompt = [{"role": "user", "content": prompt}]
    if not tokenizer.chat_template:
        raise ModelError(
            f"The prompt is a conversation, but the tokenizer of {tokenizer.name_or_path!r} has no chat template. Give plain "
            "text prompts, or put a chat_template.jinja into the model's folder."
        )
    try:
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in prompt], add_generation_prompt=True, tokenize=False, **dict(options or {})
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"The chat template of {tokenizer.name_or_path!r} cannot render a prompt: {error}. Check the roles of the messages "
            "and the template options; a template that reaches outside its sandbox is refused."
        ) from error
    return _encode(tokenizer, text, add_special_tokens=False)  # the template writes the special tokens itself


def render_response(tokenizer: Any, text: str, *, stop_token_id: int | None) -> list[int]:
    """The ids of a given response, ended by the stop id that a student would write.

    Args:
        tokenizer: A transformers tokenizer.
        text: The response without any end marker.
        stop_token_id: Appended once; None appends nothing.

    Raises:
        DataError: The tokenizer has no ids for a character and no unknown token.
    """
    ids = _encode(tokenizer, text, add_special_tokens=False)
    return ids if stop_token_id is None else [*ids, stop_token_id]


def _encode(tokenizer: Any, text: str, *, add_special_tokens: bool) -> list[int]:
    try:
        return tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
    except Exception as error:  # tokenizers raises nothing narrower
        shown = text if len(text) <= 60 else text[:60] + "..."
        raise DataError(
            f"The tokenizer of {tokenizer.name_or_path!r} cannot read {shown!r}: {error}. Use characters that it knows."
        ) from error
