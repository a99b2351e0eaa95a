"""Small random models of many families, and folders of them on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import LanguageModel

_SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_WINDOW = {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8}

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SIZES, tie_word_embeddings=False)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_SIZES, head_dim=8, tie_word_embeddings=True)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**_SIZES, **_WINDOW, final_logit_softcapping=2.0)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**_SIZES, **_WINDOW, sliding_window_pattern=2)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**_SIZES, logit_scale=0.0625)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**_SIZES, logits_scaling=8.0)),
    "phi": lambda: PhiForCausalLM(PhiConfig(**{**_SIZES, "num_key_value_heads": 4})),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=40,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    ),
}
CHARACTERS = "0123456789+-*=; abcdefghijklmnop"


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer(CHARACTERS, chat=True)


@pytest.fixture
def of_family(tokenizer: Any) -> Callable[[str], LanguageModel]:
    """A random model of a family; its head's bias, if any, is random as well."""

    def make(family: str) -> LanguageModel:
        torch.manual_seed(1)
        network = FAMILIES[family]().eval()
        bias = getattr(network.get_output_embeddings(), "bias", None)
        if bias is not None:
            torch.nn.init.normal_(bias)
        return LanguageModel(network, tokenizer, name=family)

    return make


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Any) -> Path:
    """A complete model folder."""
    return make_model(tmp_path / "model", tokenizer=tokenizer, shape=Shape(initial_std=0.3))
