"""Loading a model, with its refusals in words."""

import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from tutelage.errors import ConfigError, ModelError
from tutelage.models.language_model import LanguageModel
from tutelage.models.source import Lora, ModelSource

_LOG = logging.getLogger(__name__)

Role = Literal["student", "teacher"]

# Whatever a damaged folder makes transformers raise; SafetensorError derives from none of the others.
_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError)


def load(source: ModelSource, *, role: Role, device: torch.device | str = "cpu") -> LanguageModel:
    """A model and its tokenizer, checked to be of a kind whose logits the fused head reproduces.

    Args:
        source: Where it lies and how it is loaded.
        role: A student trains; a teacher is frozen, and in bfloat16 on a GPU unless told otherwise.
        device: Where the weights go.

    Raises:
        ModelError: It is missing, damaged, or not a causal language model that this package can train.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for each file would break up our own
    _require_folder(source.path, role)
    tokenizer = _tokenizer(source, role)
    model = _causal_model(source, role, torch.device(device))
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


def load_without_weights(source: ModelSource, *, max_context: int | None = None) -> LanguageModel:
    """The tokenizer and the shape of a model whose weights lie behind a server, or nowhere: all that a preflight asks about it.

    Args:
        source: Folder or hub id; only its tokenizer and configurations are read.
        max_context: What the server reads at most, in tokens; none where no server does.

    Raises:
        ModelError: Tokenizer or configuration are missing or damaged.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    _require_folder(source.path, "teacher")
    tokenizer = _tokenizer(source, "teacher")
    try:
        config: Any = AutoConfig.from_pretrained(source.path, **_origin(source))
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=source.trust_remote_code)
    except _LOADING_ERRORS as error:
        raise ModelError(f"The configuration in {source.path!r} cannot be read: {_first_line(error)}.") from error
    with suppress(OSError):  # a folder need not have one
        model.generation_config = GenerationConfig.from_pretrained(source.path, **_origin(source))
    text = model.config.get_text_config(decoder=True)
    if max_context is not None:
        text.max_position_embeddings = min(getattr(text, "max_position_embeddings", max_context), max_context)
    return LanguageModel(model, tokenizer, name=source.path, template_options=source.template_options)


def _tokenizer(source: ModelSource, role: Role) -> Any:  # transformers makes these classes at run time
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source.path, **_origin(source))
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"The {role}'s tokenizer in {source.path!r} cannot be loaded: {_first_line(error)}. A model folder needs "
            "tokenizer.json and tokenizer_config.json beside config.json."
        ) from error
    if len(tokenizer.get_vocab()) <= len(tokenizer.get_added_vocab()):  # an empty shell, which some families make up
        raise ModelError(
            f"The {role}'s tokenizer in {source.path!r} knows no token but its special ones. Put the tokenizer.json "
            "and tokenizer_config.json that the model was trained with into its folder."
        )
    return tokenizer


def _causal_model(source: ModelSource, role: Role, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    options = _origin(source)
    if source.attention is not None:
        options["attn_implementation"] = source.attention
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.path, dtype=_dtype(source, role, device), output_loading_info=True, **options
        )
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"The {role} in {source.path!r} cannot be loaded: {_first_line(error)}. It must be a causal language model in "
            "Hugging Face format: config.json and *.safetensors."
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"The {role} in {source.path!r} lacks {len(missing)} of its weights, among them {missing[0]!r}: they would stay "
            "random. Download or copy the folder again; its *.safetensors are incomplete or of another model."
        )
    return model


def _origin(source: ModelSource) -> dict[str, Any]:
    return {"revision": source.revision, "trust_remote_code": source.trust_remote_code}


def _require_folder(path: str, role: Role) -> None:
    option = "--student.path" if role == "student" else "--recipe.teacher.model"
    if not path:
        raise ModelError(f"No {role} was given. Name a model folder or hub id with {option}.")
    folder = Path(path).expanduser()
    looks_local = path.startswith((".", "/", "~")) or folder.exists() or path.count("/") != 1
    if looks_local and not folder.is_dir():
        raise ModelError(f"The {role}'s folder {path!r} does not exist. Check {option}; a hub id has the form owner/name.")
    if looks_local and not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"The {role}'s folder {path!r} holds an adapter without its model. A checkpoint keeps the merged model one "
                f"folder above: give {option} that one, or merge the adapter first."
            )
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
    _require_plain_embeddings(model, targets)
    try:
        return get_peft_model(
            model,
            LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
            ),
        )
    except ValueError as error:
        raise ConfigError(f"LoRA cannot be added: {_first_line(error)}. Check --student.lora.target_modules.") from error


def _require_plain_embeddings(model: Any, targets: str | list[str]) -> None:
    ends = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    for name, module in model.named_modules():
        if isinstance(targets, str):
            adapted = re.fullmatch(targets, name) is not None
        else:
            adapted = any(name == target or name.endswith(f".{target}") for target in targets)
        if adapted and id(module) in ends:
            raise ConfigError(
                f"LoRA on {name.rpartition('.')[2]!r} is not supported: losses are evaluated from the head's own weight, which "
                "an adapter does not move. Leave embeddings and head out of --student.lora.target_modules; 'all-linear' does."
            )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
