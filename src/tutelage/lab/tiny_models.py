"""Language models of any size with random weights, written as complete Hugging Face folders: nothing is downloaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from tutelage.errors import ConfigError

UNKNOWN, PAD, END = "<unknown>", "<pad>", "<end>"
ROLES = ("<system>", "<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<' + message.role + '>' + message.content -}}{%- if message.role == 'assistant' -%}<end>{%- endif -%}"
    "{%- endfor -%}{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Size and family of a decoder-only transformer."""

    family: Literal["qwen3", "llama"] = "qwen3"
    """Qwen3 normalises queries and keys per head, Llama does not."""
    hidden: int = 32
    """Width of the residual stream."""
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    """Heads of keys and values; divides `heads`."""
    head_dim: int = 8
    intermediate: int = 64
    """Width inside the feed-forward block."""
    vocab_size: int | None = None
    """Rows of the head; None takes the tokenizer's size, more pads the head."""
    tie: bool = True
    """Input and output embedding are one matrix."""
    max_context: int = 512
    """Longest sequence in tokens."""
    initial_std: float = 0.02
    """Standard deviation of the random weights; larger ones make sharper predictions."""

    def __post_init__(self) -> None:
        sizes = (self.hidden, self.layers, self.heads, self.kv_heads, self.head_dim, self.intermediate, self.max_context)
        if min(sizes) < 1 or self.heads % self.kv_heads or self.head_dim % 2:
            raise ConfigError(
                f"{self} is no transformer: every size must be at least 1, kv_heads must divide heads, and head_dim must be "
                "even (rotary positions turn pairs of dimensions)."
            )


def make_tokenizer(characters: str, *, chat: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer with one id per character, then one for all others, padding, end of sequence, the marks of a conversation.

    Args:
        characters: The alphabet, without repetition; its order is that of the ids.
        chat: Adds one token per role and a chat template that uses them.

    Raises:
        ConfigError: A character appears twice.
    """
    if len(set(characters)) < len(characters):
        raise ConfigError(f"A tokenizer's characters must differ, got {characters!r}: two ids for one character are ambiguous.")
    vocab = {character: index for index, character in enumerate([*characters, UNKNOWN])}
    backend = Tokenizer(models.WordLevel(vocab=vocab, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    marks: dict[str, Any] = {"extra_special_tokens": list(ROLES), "chat_template": CHAT_TEMPLATE} if chat else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
        **marks,
    )


def make_model(folder: Path, *, tokenizer: PreTrainedTokenizerFast, shape: Shape = Shape(), seed: int = 0) -> Path:
    """Write a model with random weights, its configs and its tokenizer; the same arguments give the same bytes.

    Args:
        folder: Made if absent.
        tokenizer: Its end of sequence and padding go into the configs.
        shape: Size and family.
        seed: Of the weights; the global random generator is left as it was.

    Returns:
        The folder.

    Raises:
        ConfigError: The head has fewer rows than the tokenizer has ids.
    """
    vocab = shape.vocab_size or len(tokenizer)
    if vocab < len(tokenizer):
        raise ConfigError(f"The head has {vocab} rows, but the tokenizer has {len(tokenizer)} ids: give it at least as many.")
    settings = _config_fields(shape, vocab=vocab, tokenizer=tokenizer)
    disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (
            Qwen3ForCausalLM(Qwen3Config(**settings)) if shape.family == "qwen3" else LlamaForCausalLM(LlamaConfig(**settings))
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def count_parameters(folder: Path) -> int:
    """Numbers in the weights on disk; tied matrices count once."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return sum(torch.Size(weights.get_slice(name).get_shape()).numel() for name in weights.keys())  # noqa: SIM118


def _config_fields(shape: Shape, *, vocab: int, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.max_context,
        "initializer_range": shape.initial_std,
        "tie_word_embeddings": shape.tie,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
