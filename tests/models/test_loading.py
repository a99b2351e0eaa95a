import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tutelage.errors import ConfigError, ModelError, NumericsError
from tutelage.models import Lora, ModelSource, load
from tutelage.rollouts import CachedSampler
from tutelage.rollouts.sources import Sampling


def _rewrite_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", "No student was given"),
        ("/no/such/folder", "does not exist"),
        ("./here/neither", "does not exist"),
        ("gpt2-of-nobody", "owner/name"),
        ("nobody/nothing", "cannot be loaded"),
    ],
)
def test_a_model_that_is_nowhere_is_named_in_the_refusal(path, found):
    with pytest.raises(ModelError, match=found) as refusal:
        load(ModelSource(path=path), role="student")
    assert path in str(refusal.value)


def test_the_refusal_of_a_teacher_names_the_teachers_setting():
    with pytest.raises(ModelError, match=r"--recipe\.teacher\.model"):
        load(ModelSource(path="/no/such/folder"), role="teacher")


def test_a_folder_without_a_model_shows_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(ModelError, match=r"no config\.json.*notes\.txt"):
        load(ModelSource(path=str(tmp_path)), role="student")


def test_an_adapter_alone_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter without its model"):
        load(ModelSource(path=str(tmp_path)), role="student")


def test_a_folder_without_a_tokenizer_is_refused(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load(ModelSource(path=str(folder)), role="student")


@pytest.mark.parametrize("damage", ["{", '{"model_type": "no_such_family"}', "{}", '{"model_type": "t5"}'])
def test_a_config_that_is_no_language_models_is_refused(folder, damage):
    (folder / "config.json").write_text(damage)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(ModelSource(path=str(folder)), role="student")


def test_weights_that_are_no_weights_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"123456789")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(ModelSource(path=str(folder)), role="student")


def test_cut_weights_are_refused(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(ModelSource(path=str(folder)), role="student")


def test_a_weight_that_is_missing_is_named_and_never_left_random(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj"):
        load(ModelSource(path=str(folder)), role="student")


def test_weights_that_are_not_finite_are_left_to_those_who_can_say_where(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(ModelSource(path=str(folder)), role="student")
    with pytest.raises(NumericsError, match="not finite"):
        CachedSampler(model, vocab=model.vocab_size, stop_token_ids=frozenset()).sample([[1]], Sampling(), seed=0)


def test_weights_of_another_size_are_refused(folder):
    _rewrite_config(folder, intermediate_size=32)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(ModelSource(path=str(folder)), role="student")


def test_a_models_own_code_does_not_run_unless_it_is_trusted(folder, tmp_path):
    ran = tmp_path / "ran"
    (folder / "its_code.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Config: ...\nclass Model: ...\n")
    _rewrite_config(
        folder, model_type="its_own", auto_map={"AutoConfig": "its_code.Config", "AutoModelForCausalLM": "its_code.Model"}
    )
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(ModelSource(path=str(folder)), role="student")
    assert not ran.exists()


@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_a_student_has_float32_weights_and_a_teacher_on_a_cpu_those_that_are_stored(folder, stored):
    weights = {name: tensor.to(getattr(torch, stored)) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _rewrite_config(folder, dtype=stored)
    source = ModelSource(path=str(folder))
    assert load(source, role="student").dtype == torch.float32
    assert load(source, role="teacher").dtype == getattr(torch, stored)
    assert load(replace(source, dtype="bfloat16"), role="student").dtype == torch.bfloat16


def test_a_student_trains_and_a_teacher_does_not(folder):
    source = ModelSource(path=str(folder))
    student, teacher = load(source, role="student"), load(source, role="teacher")
    assert len(student.trainable_parameters()) == len(list(student.model.parameters()))
    assert teacher.trainable_parameters() == []
    assert not teacher.model.training


def test_only_adapters_train_under_lora(folder):
    model = load(ModelSource(path=str(folder), lora=Lora(rank=4)), role="student")
    assert model.is_adapted
    trained = model.trainable_state()
    assert trained
    assert all("lora_" in name and 4 in tensor.shape for name, tensor in trained.items())


def test_adapters_without_their_package_name_the_extra_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"tutelage\[peft\]"):
        load(ModelSource(path=str(folder), lora=Lora(rank=4)), role="student")


def test_adapters_of_a_reduced_student_keep_float32_because_small_steps_vanish_otherwise(folder):
    model = load(ModelSource(path=str(folder), dtype="bfloat16", lora=Lora(rank=4)), role="student")
    assert model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.trainable_parameters()} == {torch.float32}


def test_an_untrained_adapter_changes_nothing(folder):
    ids = torch.arange(9).unsqueeze(0)
    states = [
        load(ModelSource(path=str(folder), lora=lora), role="student").hidden_states(ids, torch.ones_like(ids), ids)
        for lora in (None, Lora(rank=4))
    ]
    torch.testing.assert_close(states[1], states[0])


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_that_the_losses_would_not_see_is_refused(folder, target):
    with pytest.raises(ConfigError, match=f"LoRA on {target!r}"):
        load(ModelSource(path=str(folder), lora=Lora(rank=4, target_modules=(target, "q_proj"))), role="student")
    with pytest.raises(ConfigError, match=f"LoRA on {target!r}"):
        load(ModelSource(path=str(folder), lora=Lora(rank=4, target_modules=f".*{target}")), role="student")


def test_adapters_for_layers_that_do_not_exist_are_refused(folder):
    with pytest.raises(ConfigError, match="no_such_layer"):
        load(ModelSource(path=str(folder), lora=Lora(rank=4, target_modules=("no_such_layer",))), role="student")


@pytest.mark.parametrize("changes", [{"rank": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_adapters_of_no_size_are_refused(changes):
    with pytest.raises(ConfigError, match="Lora needs"):
        Lora(**changes)


def test_the_attention_that_is_asked_for_is_the_one_that_is_used(folder):
    assert load(ModelSource(path=str(folder), attention="eager"), role="student").config._attn_implementation == "eager"
    assert load(ModelSource(path=str(folder)), role="student").config._attn_implementation == "sdpa"
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(ModelSource(path=str(folder), attention="no_such_attention"), role="student")


def test_a_family_without_fused_attention_is_loaded_with_its_own(of_family, tmp_path):
    of_family("gemma2").save(tmp_path / "gemma2")
    assert load(ModelSource(path=str(tmp_path / "gemma2")), role="student").head().softcap == 2.0


@pytest.mark.parametrize("name", ["stories260K", "stories_student_40K"])
def test_real_pretrained_models_load_and_know_their_language(data_folder, name):
    model = load(ModelSource(path=str(data_folder / "models" / name)), role="teacher")
    ids = torch.tensor([model.tokenizer("Once upon a time, there was a little girl.")["input_ids"]])
    positions = torch.arange(ids.shape[1]).unsqueeze(0)
    log_probs = model.logits(model.hidden_states(ids, torch.ones_like(ids), positions)).log_softmax(-1)
    surprise = -log_probs[0, :-1].gather(-1, ids[0, 1:, None]).mean()
    assert surprise < 0.5 * torch.tensor(float(model.vocab_size)).log()
    assert 2 in model.stop_token_ids
    assert model.max_context == 512
