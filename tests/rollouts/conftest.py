"""Small random models to sample from."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tutelage.lab.tiny_models import make_tokenizer
from tutelage.models import LanguageModel

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": None,
}
_WINDOW = {"sliding_window": 6, "query_pre_attn_scalar": 8}


def _network(family: str, vocab: int, std: float) -> Any:
    common = {"vocab_size": vocab, "initializer_range": std, "eos_token_id": 0, "pad_token_id": 0}
    match family:
        case "gpt2":
            return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, **common))
        case "gemma2":
            return Gemma2ForCausalLM(Gemma2Config(**_SIZES, **_WINDOW, **common))
        case "gemma3":
            return Gemma3ForCausalLM(Gemma3TextConfig(**_SIZES, **_WINDOW, sliding_window_pattern=2, **common))
        case _:
            return Qwen3ForCausalLM(Qwen3Config(**_SIZES, **common))


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer("0123456789")


@pytest.fixture
def make_model(tokenizer: Any) -> Callable[..., LanguageModel]:
    """A random model; a larger `std` makes sharper predictions."""

    def make(*, family: str = "qwen3", vocab: int = 12, std: float = 0.3, seed: int = 0) -> LanguageModel:
        torch.manual_seed(seed)
        return LanguageModel(_network(family, vocab, std).eval(), tokenizer, name=family)

    return make
