"""Drawing tokens on a server.

A response depends on the seed, the prompt's place in the call, and the prompt, as with the sampler in this process; the draws
themselves are the server's, so the same seed gives other responses than there.
"""

from collections.abc import Sequence
from typing import final

import numpy as np

from tutelage.errors import ServerError
from tutelage.rollouts.decoding import require_room
from tutelage.rollouts.sampler import EMPTY
from tutelage.rollouts.samples import Sample
from tutelage.rollouts.sources import Sampling
from tutelage.serving import VLLM, Drawing


@final
class ServedSampler:
    """Sends every prompt with a seed of its own; the server batches what it has at a time."""

    def __init__(self, client: VLLM, *, vocab: int, rows: int, stop_token_ids: frozenset[int]) -> None:
        """Sample from the model that a server serves, as it is at each call.

        Args:
            client: Of the server.
            vocab: Only ids below it are ever drawn.
            rows: Rows of the served model's head.
            stop_token_ids: Ids that end a response; the server's own are not used.
        """
        self._client, self._vocab, self._rows, self._stops = client, vocab, rows, stop_token_ids
        self._processed: bool | None = None

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        max_new_tokens: Sequence[int] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`.

        Raises:
            ServerError: The server fails, gives a reply that is not what was asked for, or log-probs of another distribution
                than the one that it draws from.
        """
        limits = list(max_new_tokens) if max_new_tokens is not None else [sampling.max_new_tokens] * len(prompts)
        require_room(list(map(len, prompts)), limits, context=self._client.max_model_len, name=self._client.name)
        self.require(sampling)
        asked = [index for index, limit in enumerate(limits) if limit > 0]
        found = self._client.sample(
            [prompts[index] for index in asked],
            self._drawing(sampling),
            seeds=[_seed(seed, index) for index in asked],
            limits=[limits[index] for index in asked],
        )
        done = {
            index: Sample(token_ids=one.token_ids, log_probs=one.log_probs, finish=one.finish)
            for index, one in zip(asked, found, strict=True)
        }
        return [done.get(index, EMPTY) for index in range(len(prompts))]

    def require(self, sampling: Sampling) -> None:
        """Refuse a server that reports log-probs of another distribution than the one it would draw from.

        Raises:
            ServerError: With the flag that the server needs.
        """
        if self._drawing(sampling).plain or (sampling.temperature == 0.0 and self._rows == self._vocab):
            return  # nothing is processed, so both are the same
        if self._processed is None:
            self._processed = self._client.reports_processed([0, 0])
        if not self._processed:
            raise ServerError(
                f"{self._client.name!r} reports log-probs from before temperature, top-k and top-p, and tokens are drawn after "
                f"them ({sampling}, {self._vocab} of {self._rows} ids): importance ratios would be wrong. Start the server "
                "with --logprobs-mode processed_logprobs, or sample plainly at temperature 1."
            )

    def _drawing(self, sampling: Sampling) -> Drawing:
        greedy = sampling.temperature == 0.0
        return Drawing(
            temperature=sampling.temperature,
            top_p=1.0 if greedy else sampling.top_p,
            top_k=0 if greedy else sampling.top_k,
            stop_token_ids=self._stops,
            vocab=self._vocab,
            rows=self._rows,
        )


def _seed(seed: int, index: int) -> int:
    """A stream of its own for every prompt of a call; a processor's generator reads 32 bits of it."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint32)[0] >> 1)
