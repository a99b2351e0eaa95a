from pathlib import Path

import pytest
import torch

from tutelage.errors import ConfigError
from tutelage.lab.tiny_models import ROLES, Shape, count_parameters, make_model, make_tokenizer
from tutelage.models import ModelSource, load
from tutelage.models.chat import render

LETTERS = "abc 01\n"


def test_every_character_is_one_id_and_text_survives_the_round_trip():
    tokenizer = make_tokenizer(LETTERS)
    text = "a b\n10  c"
    ids = tokenizer(text)["input_ids"]
    assert ids == [LETTERS.index(character) for character in text]
    assert tokenizer.decode(ids) == text
    special = {tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id}
    assert special == set(range(len(LETTERS), len(LETTERS) + 3))


def test_characters_outside_the_alphabet_share_one_id():
    tokenizer = make_tokenizer(LETTERS)
    assert tokenizer("az\u00e9b")["input_ids"] == [0, tokenizer.unk_token_id, tokenizer.unk_token_id, 1]


def test_a_repeated_character_is_refused():
    with pytest.raises(ConfigError, match="differ"):
        make_tokenizer("aba")


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("tie", [True, False])
def test_the_folder_loads_as_a_student_whose_head_may_be_padded(tmp_path: Path, family, tie: bool):
    tokenizer = make_tokenizer(LETTERS)
    make_model(tmp_path, tokenizer=tokenizer, shape=Shape(family=family, tie=tie, vocab_size=32))
    loaded = load(ModelSource(path=str(tmp_path)), role="student")
    assert loaded.model.config.model_type == family
    assert (loaded.vocab_size, loaded.tokenizer_size) == (32, len(LETTERS) + 3)
    assert loaded.stop_token_ids == {tokenizer.eos_token_id}
    assert (loaded.model.generation_config.eos_token_id, loaded.max_context) == (tokenizer.eos_token_id, 512)
    assert loaded.tokenizer("ab0")["input_ids"] == [0, 1, 4]
    assert count_parameters(tmp_path) == sum(p.numel() for p in loaded.model.parameters())


def test_the_size_is_that_of_the_formula(tmp_path: Path):
    shape = Shape(hidden=16, layers=3, heads=2, kv_heads=1, head_dim=4, intermediate=20, vocab_size=11)
    attention = 16 * (2 * 4) * 2 + 16 * (1 * 4) * 2 + 2 * 4  # queries and output, keys and values, two norms
    block = attention + 3 * 16 * 20 + 2 * 16
    make_model(tmp_path, tokenizer=make_tokenizer(LETTERS), shape=shape)
    assert count_parameters(tmp_path) == 11 * 16 + 3 * block + 16


def test_a_seed_decides_every_byte_and_leaves_the_global_generator_alone(tmp_path: Path):
    tokenizer = make_tokenizer(LETTERS)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    weights = [
        (make_model(tmp_path / name, tokenizer=tokenizer, seed=seed) / "model.safetensors").read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(torch.rand(3), expected)


def test_conversations_are_marked_with_one_token_per_role(tmp_path: Path):
    tokenizer = make_tokenizer(LETTERS, chat=True)
    make_model(tmp_path, tokenizer=tokenizer)
    loaded = load(ModelSource(path=str(tmp_path)), role="student").tokenizer
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    system, user, assistant = (loaded.convert_tokens_to_ids(role) for role in ROLES)
    assert render(loaded, turns) == [user, 0, assistant, 1, loaded.eos_token_id, user, 2, assistant]
    assert len({system, user, assistant}) == 3


def test_a_head_smaller_than_the_tokenizer_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="4 rows"):
        make_model(tmp_path, tokenizer=make_tokenizer(LETTERS), shape=Shape(vocab_size=4))


@pytest.mark.parametrize("wrong", [{"heads": 3, "kv_heads": 2}, {"head_dim": 7}, {"layers": 0}])
def test_an_impossible_shape_is_refused(wrong: dict[str, int]):
    with pytest.raises(ConfigError, match="no transformer"):
        Shape(**wrong)
