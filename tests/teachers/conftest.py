"""A small language model of bytes, made on the spot, and rollouts for it."""

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tutelage.models import LanguageModel
from tutelage.types import Author, Example, Rollout

CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if quiet is defined and quiet %}(quiet){% endif %}{% endif %}"
)


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>", chat_template=CHAT_TEMPLATE
    )


@pytest.fixture
def make_model(byte_tokenizer) -> Callable[..., LanguageModel]:
    """A random model; `rank` adds an adapter that already does something."""

    def make(
        *,
        seed: int = 0,
        rank: int = 0,
        dropout: float = 0.0,
        max_context: int = 512,
        tokenizer: PreTrainedTokenizerFast = byte_tokenizer,
        rows: int = 272,  # the byte tokenizer has 258 ids: the head is padded
    ) -> LanguageModel:
        torch.manual_seed(seed)
        config = Qwen3Config(
            vocab_size=rows,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=max_context,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.3,
        )
        network = Qwen3ForCausalLM(config)
        if rank:
            from peft import LoraConfig, get_peft_model

            network = get_peft_model(
                network, LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules="all-linear")
            )
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    if "lora_B" in name:
                        parameter.normal_(std=0.3)
        return LanguageModel(network.eval(), tokenizer, name=f"tiny-{seed}")

    return make


@pytest.fixture
def make_rollout(byte_tokenizer) -> Callable[..., Rollout]:
    """A response to an example, by the student unless `authors` says otherwise."""

    def make(example: Example, response: str, *, group: int = 0, authors: list[Author] | None = None) -> Rollout:
        prompt = example.prompt
        ids = (
            byte_tokenizer(prompt)["input_ids"]
            if isinstance(prompt, str)
            else byte_tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_dict=True)["input_ids"]
        )
        tokens = torch.tensor([*byte_tokenizer(response)["input_ids"], byte_tokenizer.eos_token_id])
        return Rollout(
            example=example,
            group=group,
            prompt_ids=torch.tensor(ids),
            response_ids=tokens,
            authors=torch.tensor([int(author) for author in authors or [Author.STUDENT] * len(tokens)]),
            behaviour_log_probs=torch.zeros(len(tokens)),
            finish="stop",
            text=response,
        )

    return make
