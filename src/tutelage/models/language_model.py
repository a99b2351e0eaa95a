"""A causal language model taken apart into what the loop needs: hidden states, a head, a tokenizer, a folder to save to."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import CheckpointError, ModelError
from tutelage.models.sharding import whole
from tutelage.types import Head


@final
class LanguageModel:
    """A model and its tokenizer.

    `model` is a transformers or peft model and `tokenizer` a transformers tokenizer; both are `Any` because those libraries
    build their classes at run time.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        stop_token_ids: Sequence[int] = (),
        template_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: transformers causal language model, with or without a peft adapter.
            tokenizer: Its tokenizer.
            name: Folder or hub id, for messages.
            stop_token_ids: Ids that end a response; empty takes those of the generation config, the config and the tokenizer.
            template_options: Options of the chat template.
        """
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.template_options: Mapping[str, Any] = dict(template_options or {})
        self.stop_token_ids = frozenset(stop_token_ids) or _stop_token_ids(self._plain, tokenizer)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self._output_layer.weight.dtype

    @property
    def vocab_size(self) -> int:
        """Rows of the head; at least as many as the tokenizer has ids, often padded beyond."""
        return self._output_layer.weight.shape[0]

    @cached_property
    def tokenizer_size(self) -> int:
        """One more than the largest id of the tokenizer."""
        return max(self.tokenizer.get_vocab().values()) + 1

    @property
    def config(self) -> Any:
        """The transformers configuration of the text decoder."""
        return self._plain.config.get_text_config(decoder=True)

    @property
    def max_context(self) -> int | None:
        """Longest sequence that the model takes, in tokens; None where it does not say."""
        return getattr(self.config, "max_position_embeddings", None)

    @property
    def is_adapted(self) -> bool:
        """Whether an adapter is trained instead of the weights."""
        return self._plain is not self.model

    @property
    def _plain(self) -> Any:
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @property
    def _output_layer(self) -> Any:
        return self._plain.get_output_embeddings()

    def head(self, vocab: int | None = None) -> Head:
        """The output layer, cut to the first `vocab` ids; its tensors are the model's own, so gradients reach them."""
        layer, config = self._output_layer, self.config
        bias = getattr(layer, "bias", None)
        scale = getattr(config, "logit_scale", None)
        divisor = getattr(config, "logits_scaling", None)
        return Head(
            weight=whole(layer.weight)[:vocab],
            bias=None if bias is None else whole(bias)[:vocab],
            scale=float(scale if scale is not None else 1.0 / divisor if divisor else 1.0),
            softcap=getattr(config, "final_logit_softcapping", None),
        )

    def hidden_states(
        self,
        input_ids: Int[Tensor, "rollout time"],
        attention_mask: Int[Tensor, "rollout time"],
        position_ids: Int[Tensor, "rollout time"],
    ) -> Float[Tensor, "rollout time width"]:
        """Last hidden states after the final norm; the head is not applied. Adapters take part."""
        return self.forward_backbone(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        ).last_hidden_state

    def forward_backbone(self, **inputs: Any) -> Any:
        """The backbone's own output object, for samplers that keep a cache."""
        return self._plain.base_model(**inputs)

    def logits(self, states: Float[Tensor, "*batch width"], vocab: int | None = None) -> Float[Tensor, "*batch vocab"]:
        """The head applied to hidden states, as float32: for samplers and checks, where all logits fit in memory."""
        head = self.head(vocab)
        logits = (states @ head.weight.T if head.bias is None else states @ head.weight.T + head.bias).float()
        logits = logits if head.scale == 1.0 else logits * head.scale
        return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters that an optimiser moves."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def trainable_state(self) -> dict[str, Tensor]:
        """The trained parameters by name."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    @torch.no_grad()
    def load_trainable(self, state: Mapping[str, Tensor]) -> None:
        """Put the trained parameters back.

        Raises:
            CheckpointError: Names or shapes are those of another model.
        """
        own = self.trainable_state()
        odd = sorted(set(own) ^ set(state)) or [name for name in own if own[name].shape != state[name].shape]
        if odd:
            raise CheckpointError(
                f"The saved student does not fit {self.name!r}: parameter {odd[0]!r} differs ({len(odd)} in all). "
                "Resume with the student and the LoRA settings that the run was started with."
            )
        for name, value in own.items():
            value.copy_(state[name])

    def clone_frozen(self) -> "LanguageModel":
        """A copy that no longer moves. What the student does not train is shared, so a copy of an adapter costs an adapter."""
        shared = {id(parameter): parameter for parameter in self.model.parameters() if not parameter.requires_grad}
        twin = copy.deepcopy(self.model, memo=shared)
        for parameter in twin.parameters():
            if id(parameter) not in shared:
                parameter.requires_grad_(False)
        twin.eval()
        return LanguageModel(
            twin,
            self.tokenizer,
            name=self.name,
            stop_token_ids=tuple(self.stop_token_ids),
            template_options=self.template_options,
        )

    def save(self, folder: Path) -> None:
        """Write the model and the tokenizer in Hugging Face format; an adapter is merged in, and kept beside in `adapter`."""
        if self.is_adapted:
            self.model.save_pretrained(folder / "adapter")
        self._merged().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """The tensors that `save` writes, by the names that it gives them, where they lie; tied ones come once."""
        # transformers does these steps inside of `save_pretrained` only, on their way to a file
        from transformers.core_model_loading import revert_weight_conversion
        from transformers.modeling_utils import remove_tied_weights_from_state_dict

        merged = self._merged()
        state = {name: whole(tensor.detach()) for name, tensor in merged.state_dict().items()}
        for name in merged._keys_to_ignore_on_save or ():
            state.pop(name, None)
        return revert_weight_conversion(merged, remove_tied_weights_from_state_dict(state, merged))

    def _merged(self) -> Any:
        """The transformers model, with an adapter merged into a copy of it."""
        return copy.deepcopy(self.model).merge_and_unload() if self.is_adapted else self.model

    @torch.no_grad()
    def require_known_head(self) -> None:
        """Compare this package's logits with the model's own on a few ids.

        Raises:
            ModelError: They differ, so the family's output layer does something that `Head` does not describe.
        """
        ids = torch.arange(min(4, self.vocab_size), device=self.device).unsqueeze(0)
        mask = torch.ones_like(ids)
        states = self.hidden_states(ids, mask, torch.arange(ids.shape[1], device=self.device).unsqueeze(0))
        ours = self.logits(states)
        theirs = self._plain(input_ids=ids, attention_mask=mask, use_cache=False).logits
        if not bool(theirs.isfinite().all()):
            return  # damaged weights, of which the sampler and the objective speak with more detail
        tolerance = 1e-3 if self.dtype == torch.float32 else 3e-2
        if float((ours - theirs.float()).abs().max()) > tolerance * float(theirs.float().abs().max()):
            raise ModelError(
                f"The logits of {self.name!r} ({type(self._plain).__name__}) are not its head applied to its last hidden "
                "states, so its losses would be wrong. This model family is not supported yet."
            )


def _stop_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    for holder in (getattr(model, "generation_config", None), model.config, tokenizer):
        ids = getattr(holder, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    return frozenset(found)
