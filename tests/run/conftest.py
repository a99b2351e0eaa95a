"""Small random models around real tokenizers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tutelage.models import LanguageModel


@pytest.fixture
def model_around(data_folder) -> Callable[..., LanguageModel]:
    """A model of any number of rows around one of the real tokenizers (or one of the stories models')."""

    def make(
        tokenizer: str | PreTrainedTokenizerFast,
        *,
        rows: int | None = None,
        eos: str | None = "unset",
        stop_token_ids: Sequence[int] = (),
        template: str | Path | None = "unset",
        max_context: int = 2048,
        name: str = "",
        template_options: dict[str, Any] | None = None,
    ) -> LanguageModel:
        if isinstance(tokenizer, str):
            folder = data_folder / ("models" if tokenizer.startswith("stories") else "tokenizers") / tokenizer
            name = name or tokenizer
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        if eos != "unset":
            tokenizer.eos_token = eos
        if template != "unset":
            tokenizer.chat_template = template.read_text() if isinstance(template, Path) else template
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=rows or max(tokenizer.get_vocab().values()) + 1,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            max_position_embeddings=max_context,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=None,
            tie_word_embeddings=True,
        )
        return LanguageModel(
            LlamaForCausalLM(config).eval(),
            tokenizer,
            name=name or "model",
            stop_token_ids=stop_token_ids,
            template_options=template_options,
        )

    return make
