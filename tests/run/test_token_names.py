"""Tokens that a recipe names by their text are looked up when a run is put together."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import ALPHABET, MAX_NEW_TOKENS, Pair, make_pair

from tutelage.recipes import revisiting
from tutelage.run import api


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def trained(pair: Pair, folder, skip_first: tuple[str, ...]) -> dict[str, torch.Tensor]:
    config = pair.config("revisiting", folder, evaluation_data=None)
    recipe = revisiting(str(pair.teacher), k=4, skip_first=skip_first, n=2, max_new_tokens=MAX_NEW_TOKENS)
    return load_file(api.train(replace(config, recipe=recipe)).student / "model.safetensors")


def test_names_that_the_vocabulary_has_leave_tokens_out_and_others_leave_nothing_out(pair, tmp_path):
    none, absent, every = (
        trained(pair, tmp_path / name, skip_first)
        for name, skip_first in (("none", ()), ("absent", ("zz", "<|im_end|>")), ("every", tuple(ALPHABET)))
    )
    assert all(torch.equal(none[name], absent[name]) for name in none)
    assert any(not torch.equal(none[name], every[name]) for name in none)
