from pathlib import Path

import pytest
import torch
from torch import Tensor

from tutelage.errors import CheckpointError, ModelError
from tutelage.models import LanguageModel, Lora, ModelSource, load

FAMILIES = ("llama", "qwen3", "gemma2", "gemma3", "cohere", "granite", "phi", "gpt2")


def _padded(*lengths: int) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(lengths)
    ids = torch.randint(3, 35, (len(lengths), longest), generator=torch.Generator().manual_seed(5))
    mask = (torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)).long()
    return ids * mask, mask, torch.arange(longest).expand(len(lengths), longest)


def _moved_adapter(folder: Path, *, rank: int = 4) -> LanguageModel:
    """An adapter that already does something."""
    model = load(ModelSource(path=str(folder), lora=Lora(rank=rank, alpha=8)), role="student")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_on_the_hidden_states_gives_the_models_own_logits(of_family, family):
    model = of_family(family)
    ids, mask, positions = _padded(11, 7, 3)
    with torch.no_grad():
        expected = model.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        found = model.logits(model.hidden_states(ids, mask, positions))
    real = mask.bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)
    model.require_known_head()


def test_the_head_of_an_adapted_model_gives_the_adapted_logits(folder):
    model = _moved_adapter(folder)
    ids, mask, positions = _padded(9, 4)
    with torch.no_grad():
        expected = model.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        with model.model.disable_adapter():
            base = model.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        found = model.logits(model.hidden_states(ids, mask, positions))
    real = mask.bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)
    assert (found - base)[real].abs().max() > 0.1


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi", "gpt2"])
def test_gradients_through_states_and_head_are_those_through_the_models_logits(of_family, family):
    model = of_family(family)
    ids, mask, positions = _padded(6, 6)

    def gradients(logits: Tensor) -> dict[str, Tensor]:
        logits.float().log_softmax(-1)[..., 3].sum().backward()
        found = {name: parameter.grad.clone() for name, parameter in model.model.named_parameters()}
        model.model.zero_grad()
        return found

    expected = gradients(model.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits)
    found = gradients(model.logits(model.hidden_states(ids, mask, positions)))
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_a_cut_head_is_the_first_rows_of_the_same_memory(of_family):
    model = of_family("phi")
    head, cut = model.head(), model.head(25)
    assert cut.vocab_size == 25
    assert cut.weight.data_ptr() == head.weight.data_ptr() == model.model.lm_head.weight.data_ptr()
    ids, mask, positions = _padded(5)
    with torch.no_grad():
        states = model.hidden_states(ids, mask, positions)
        torch.testing.assert_close(model.logits(states, 25), model.logits(states)[..., :25])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["cohere", "gemma2", "granite"])
def test_an_output_layer_that_does_more_than_the_head_says_is_refused(of_family, family, dtype):
    model = of_family(family)
    model.model.to(dtype)
    model.require_known_head()
    network, known = model.model, model.model.forward

    def forward(**inputs):
        output = known(**inputs)
        output.logits = output.logits * 1.5
        return output

    network.forward = forward
    with pytest.raises(ModelError, match="not its head applied"):
        model.require_known_head()


def test_stop_ids_come_from_every_place_that_names_one(of_family, tokenizer):
    model = of_family("llama").model
    model.generation_config.eos_token_id = [7, 9]
    assert LanguageModel(model, tokenizer, name="x").stop_token_ids == {2, 7, 9, tokenizer.eos_token_id}
    assert LanguageModel(model, tokenizer, name="x", stop_token_ids=(5,)).stop_token_ids == {5}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_sizes_are_those_of_the_configuration_and_the_tokenizer(of_family, tokenizer, family):
    model = of_family(family)
    assert (model.vocab_size, model.max_context, model.tokenizer_size) == (40, 64, len(tokenizer))
    assert model.dtype == torch.float32
    assert model.device.type == "cpu"


def test_a_frozen_clone_stays_while_the_model_moves(of_family):
    model = of_family("llama")
    twin = model.clone_frozen()
    ids, mask, positions = _padded(6)
    with torch.no_grad():
        before = twin.hidden_states(ids, mask, positions)
        for parameter in model.trainable_parameters():
            parameter.mul_(1.5)
        torch.testing.assert_close(twin.hidden_states(ids, mask, positions), before, atol=0, rtol=0)
        assert not torch.allclose(model.hidden_states(ids, mask, positions), before)
    assert twin.trainable_parameters() == []
    assert all(parameter.requires_grad for parameter in model.model.parameters())


def test_a_frozen_clone_of_an_adapted_model_copies_the_adapter_and_shares_the_base(folder):
    model = _moved_adapter(folder)
    twin = model.clone_frozen()
    trained = {name for name, parameter in model.model.named_parameters() if parameter.requires_grad}
    own = dict(model.model.named_parameters())
    for name, parameter in twin.model.named_parameters():
        assert (parameter is own[name]) == (name not in trained), name
        assert not parameter.requires_grad
        torch.testing.assert_close(parameter.data, own[name].data, atol=0, rtol=0)
    assert trained
    assert len(model.trainable_parameters()) == len(trained)


@pytest.mark.parametrize("adapted", [False, True])
def test_a_saved_model_loads_with_the_same_logits(folder, tmp_path, adapted):
    model = _moved_adapter(folder) if adapted else load(ModelSource(path=str(folder)), role="student")
    model.save(tmp_path / "saved")
    again = load(ModelSource(path=str(tmp_path / "saved")), role="student")
    ids, mask, positions = _padded(8)
    with torch.no_grad():
        expected, found = (side.logits(side.hidden_states(ids, mask, positions)) for side in (model, again))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert again.tokenizer.get_vocab() == model.tokenizer.get_vocab()
    assert not again.is_adapted


def test_the_saved_adapter_on_the_first_model_is_the_trained_model(folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = _moved_adapter(folder)
    model.save(tmp_path / "saved")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "saved" / "adapter").eval()
    ids, mask, positions = _padded(8)
    with torch.no_grad():
        expected = model.logits(model.hidden_states(ids, mask, positions))
        torch.testing.assert_close(again(input_ids=ids, use_cache=False).logits, expected, atol=1e-5, rtol=1e-5)


def test_saving_an_adapted_model_leaves_it_as_it_was(folder, tmp_path):
    model = _moved_adapter(folder)
    before = {name: parameter.clone() for name, parameter in model.model.named_parameters()}
    model.save(tmp_path / "saved")
    after = dict(model.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_whose_generation_settings_contradict_each_other_can_be_saved(folder, tmp_path):
    (folder / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.6, "eos_token_id": 2}')
    model = load(ModelSource(path=str(folder)), role="student")
    model.save(tmp_path / "saved")
    assert load(ModelSource(path=str(tmp_path / "saved")), role="student").stop_token_ids == model.stop_token_ids


def test_trained_weights_come_back_from_their_state(folder):
    model, other = _moved_adapter(folder), load(ModelSource(path=str(folder), lora=Lora(rank=4, alpha=8)), role="student")
    other.load_trainable(model.trainable_state())
    ids, mask, positions = _padded(5)
    with torch.no_grad():
        torch.testing.assert_close(
            other.hidden_states(ids, mask, positions), model.hidden_states(ids, mask, positions), atol=0, rtol=0
        )


def test_a_state_of_another_shape_is_refused(folder):
    state = _moved_adapter(folder, rank=2).trainable_state()
    with pytest.raises(CheckpointError, match="LoRA settings"):
        _moved_adapter(folder, rank=4).load_trainable(state)
