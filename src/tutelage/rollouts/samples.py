"""A response as it was drawn, and whoever draws one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from tutelage.rollouts.sources import Sampling
from tutelage.types import FinishReason


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One response as it was drawn."""

    token_ids: Int[Tensor, " time"]
    """Includes the stop token where `finish` is `stop`; on the CPU."""
    log_probs: Float[Tensor, " time"]
    """In nats under the distribution that was drawn from, after temperature, top-k and top-p. Greedy tokens, which are not
    drawn, carry their log-probability at temperature 1."""
    finish: FinishReason


@runtime_checkable
class Sampler(Protocol):
    """Writes one response per prompt."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        max_new_tokens: Sequence[int] | None = None,
    ) -> list[Sample]:
        """Responses in the order of the prompts.

        Args:
            prompts: Token ids.
            sampling: How tokens are drawn; `n` is the caller's to apply.
            seed: Together with a prompt's place in the call it decides all draws.
            max_new_tokens: A bound per prompt, where it is not the same for all; 0 gives an empty response.

        Raises:
            DataError: A prompt has no tokens, or does not fit into the model's context together with its response.
            NumericsError: The model's logits are not finite.
        """
        ...
