"""Loading a model, with its refusals in words."""

import logging
from pathlib import Path
from typing import Any, Literal

import torch

from tutelage.errors import ConfigError, ModelError
from tutelage.models.language_model import LanguageModel
from tutelage.models.source import Lora, ModelSource

_LOG = logging.getLogger(__name__)

Role = Literal["student", "teacher"]


def load(source: ModelSource, *, role: Role, device: torch.device | str = "cpu") -> LanguageModel:
    """A model and its tokenizer, checked to be of a kind whose logits the fused head reproduces.

    Args:
        source: Where it lies and how it is loaded.
        role: A student trains; a teacher is frozen, and in bfloat16 on a GPU unless told otherwise.
        device: Where the weights go.

    Raises:
        ModelError: It is missing, damaged, or not a causal language model that this package can train.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for each file would break up our own
    _require_folder(source.path, role)
    options: dict[str, Any] = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The {role}'s tokenizer in {source.path!r} cannot be loaded: {_first_line(error)}. A model folder needs "
            "tokenizer.json and tokenizer_config.json beside config.json."
        ) from error
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.path, dtype=_dtype(source, role, torch.device(device)), attn_implementation="sdpa", **options
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"The {role} in {source.path!r} cannot be loaded: {_first_line(error)}. It must be a causal language model in "
            "Hugging Face format: config.json and *.safetensors."
        ) from error
    model.to(device)
    if role == "teacher":
        model.requires_grad_(False)
    elif source.lora is not None:
        model = _with_adapter(model, source.lora)
    model.eval()
    loaded = LanguageModel(
        model, tokenizer, name=source.path, stop_token_ids=source.stop_token_ids, template_options=source.template_options
    )
    loaded.require_known_head()
    return loaded


def _require_folder(path: str, role: Role) -> None:
    option = "--student.path" if role == "student" else "--recipe.teacher.model"
    if not path:
        raise ModelError(f"No {role} was given. Name a model folder or hub id with {option}.")
    folder = Path(path).expanduser()
    looks_local = path.startswith((".", "/", "~")) or folder.exists() or path.count("/") != 1
    if looks_local and not folder.is_dir():
        raise ModelError(f"The {role}'s folder {path!r} does not exist. Check {option}; a hub id has the form owner/name.")
    if looks_local and not (folder / "config.json").is_file():
        found = sorted(entry.name for entry in folder.iterdir())[:8]
        raise ModelError(
            f"The {role}'s folder {path!r} has no config.json, so it is no model; it holds {found}. Check {option}."
        )


def _dtype(source: ModelSource, role: Role, device: torch.device) -> torch.dtype | str:
    if source.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[source.dtype]
    if role == "student":
        return torch.float32  # optimiser steps of 1e-6 vanish in bfloat16 weights
    return torch.bfloat16 if device.type == "cuda" else "auto"


def _with_adapter(model: Any, lora: Lora) -> Any:  # transformers and peft models share no public base class
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigError("LoRA needs the package peft: pip install 'tutelage[peft]'.") from error
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    try:
        return get_peft_model(
            model,
            LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
            ),
        )
    except ValueError as error:
        raise ConfigError(f"LoRA cannot be added: {_first_line(error)}. Check --student.lora.target_modules.") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
