"""Which ids two tokenizers share: real tokenizers, their near relatives made on the spot, and what is refused."""

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tutelage.errors import PreflightError
from tutelage.run.vocabularies import shared_ids, size_of


@pytest.fixture(scope="module")
def qwen3(data_folder) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(data_folder / "tokenizers" / "qwen3")


@pytest.fixture(scope="module")
def mistral(data_folder) -> dict[str, PreTrainedTokenizerFast]:
    return {
        version: PreTrainedTokenizerFast.from_pretrained(data_folder / "tokenizers" / f"mistral_{version}")
        for version in ("v1", "v3")
    }


def changed(source: Path, target: Path, **parts) -> PreTrainedTokenizerFast:
    """A tokenizer with some entries of its tokenizer.json replaced by functions of what they were."""
    content = json.loads((source / "tokenizer.json").read_text())
    for name, change in parts.items():
        content["model" if name in ("merges", "vocab") else name] = (
            content["model"] | {name: change(content["model"][name])} if name in ("merges", "vocab") else change(content[name])
        )
    target.mkdir(exist_ok=True)
    (target / "tokenizer.json").write_text(json.dumps(content))
    return PreTrainedTokenizerFast.from_pretrained(target)


def stories(data_folder) -> Path:
    return data_folder / "models" / "stories260K"


def test_the_same_tokenizer_shares_every_id(qwen3, data_folder):
    again = PreTrainedTokenizerFast.from_pretrained(data_folder / "tokenizers" / "qwen3")
    shared = shared_ids(qwen3, again, texts=["What is 2+2?"])
    assert shared.count == len(qwen3) == size_of(qwen3)
    assert shared.left_out == ()


@pytest.mark.parametrize("other", ["gpt2", "mistral_v1", "t5_small"])
def test_another_tokenizer_is_refused_with_ids_and_a_text_that_differ(qwen3, data_folder, other):
    theirs = PreTrainedTokenizerFast.from_pretrained(data_folder / "tokenizers" / other)
    text = "Natalia sold clips to 48 of her friends."
    with pytest.raises(PreflightError, match="different tokenizers") as caught:
        shared_ids(qwen3, theirs, texts=[text])
    ours, others = qwen3(text)["input_ids"], theirs(text, add_special_tokens=False)["input_ids"]
    start = next(place for place, pair in enumerate(zip(ours, others, strict=False)) if pair[0] != pair[1])
    assert str(ours[start : start + 6]) in str(caught.value)
    assert str(others[start : start + 6]) in str(caught.value)


def test_an_extension_that_shifts_the_ids_is_refused(mistral):
    with pytest.raises(PreflightError, match=r"3 is '<0x00>' and '\[INST\]'"):
        shared_ids(mistral["v1"], mistral["v3"])


def test_equal_size_and_other_content_is_refused(data_folder, tmp_path):
    folder = stories(data_folder)
    own = PreTrainedTokenizerFast.from_pretrained(folder)

    def swapped(vocab: dict[str, int]) -> dict[str, int]:
        by_id = {index: token for token, index in vocab.items()}
        return vocab | {by_id[400]: 401, by_id[401]: 400}

    other = changed(folder, tmp_path / "swapped", vocab=swapped)
    assert size_of(own) == size_of(other)
    with pytest.raises(PreflightError, match=r"2 ids differ, for example 400 is"):
        shared_ids(own, other)


def test_the_same_pieces_joined_in_another_order_are_refused(data_folder, tmp_path):
    folder = stories(data_folder)
    own = PreTrainedTokenizerFast.from_pretrained(folder)
    other = changed(folder, tmp_path / "merged", merges=lambda merges: merges[::-1])
    assert own.get_vocab() == other.get_vocab()
    with pytest.raises(PreflightError, match="name the same ids alike but cut texts differently"):
        shared_ids(own, other)


def test_added_tokens_behind_the_vocabulary_are_left_out_and_named(data_folder):
    own, other = (PreTrainedTokenizerFast.from_pretrained(stories(data_folder)) for _ in range(2))
    own.add_tokens(["<pad>"], special_tokens=True)
    other.add_tokens(["<tool>", "<think>"], special_tokens=True)
    shared = shared_ids(own, other, texts=["Once upon a time <think> there was <pad>"])
    assert shared.count == 512
    assert shared.left_out == ("<pad>", "<tool>", "<think>")


def test_an_older_version_without_some_markers_shares_the_rest(qwen3, data_folder, tmp_path):
    def without_thinking(added: list[dict]) -> list[dict]:
        return [token for token in added if "think" not in token["content"]]

    older = changed(data_folder / "tokenizers" / "qwen3", tmp_path / "older", added_tokens=without_thinking)
    shared = shared_ids(older, qwen3, texts=["What is 2+2?"])
    assert shared.count == qwen3.convert_tokens_to_ids("<think>")
    assert shared.left_out == ("<think>", "</think>")


def test_a_text_of_the_run_that_is_cut_differently_is_shown(data_folder, tmp_path):
    folder = stories(data_folder)
    own = PreTrainedTokenizerFast.from_pretrained(folder)
    lower = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}
    other = changed(
        folder,
        tmp_path / "lower",
        normalizer=lambda old: lower | {"normalizers": [*lower["normalizers"], *([old] if old else [])]},
    )
    with pytest.raises(PreflightError, match=r"'Once Lily' differs from token 0"):
        shared_ids(own, other, texts=["Once Lily"])
