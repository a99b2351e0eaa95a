"""Drawing tokens on a server from a model that is trained here, or from a copy of it."""

from collections.abc import Mapping, Sequence
from typing import final

from tutelage.models import LanguageModel
from tutelage.rollouts.samples import Sample
from tutelage.rollouts.served_copy import ServedCopy
from tutelage.rollouts.sources import Sampling


@final
class SyncedSampler:
    """Samples from one model as it is at each call; several may share a server, each with a model of its own."""

    def __init__(self, copy: ServedCopy, model: LanguageModel) -> None:
        """Hand nothing over yet.

        Args:
            copy: The server.
            model: Whose weights it gets: the student, or what remembers an earlier one.
        """
        self._copy, self._model = copy, model

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
            ServerError: As `ServedSampler.sample`; or the weights could not be exchanged, or the server has others by now.
        """
        with self._copy.holding(self._model) as sampler:
            return sampler.sample(prompts, sampling, seed=seed, max_new_tokens=max_new_tokens)

    def figures(self) -> Mapping[str, float]:
        """See `ServedCopy.figures`: of all samplers that share the server."""
        return self._copy.figures()
