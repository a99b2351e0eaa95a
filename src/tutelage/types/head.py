"""The output layer of a language model as a value: hidden states in, logits out."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Head:
    """A language model's output layer, cut to the ids that student and teacher share.

    `logits = cap * tanh(scale * (hidden @ weight.T + bias) / cap)`; without `softcap` the tanh is absent.
    """

    weight: Float[Tensor, "vocab width"]
    """Output embedding, possibly tied to the input embedding."""
    bias: Float[Tensor, " vocab"] | None = None
    scale: float = 1.0
    """Factor on the logits (Cohere's `logit_scale`; the reciprocal of Granite's `logits_scaling`)."""
    softcap: float | None = None
    """Bound on the size of a logit (Gemma's `final_logit_softcapping`)."""

    @property
    def vocab_size(self) -> int:
        """Number of ids that the head scores."""
        return self.weight.shape[0]
