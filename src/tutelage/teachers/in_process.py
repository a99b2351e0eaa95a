"""A teacher whose weights lie in this process: from the rollouts of a step to a whole distribution per row."""

from collections.abc import Collection, Mapping
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from tutelage.models.language_model import LanguageModel
from tutelage.models.row_states import microbatches, row_states
from tutelage.teachers.context_parts import Context
from tutelage.teachers.reading import Reading, Render
from tutelage.teachers.scorer import Scored
from tutelage.teachers.weights import TeacherWeights
from tutelage.types import FullSignal, Head, StepBatch


@final
class Teacher:
    """Scores the tokens of a step under its own prompt.

    It reads exactly the response ids that were sampled; only what stands before them differs from what the student read.
    """

    provides = FullSignal.provides

    def __init__(
        self,
        weights: TeacherWeights,
        *,
        context: Context,
        render: Render | None,
        vocab: int,
        microbatch_tokens: int,
        autocast: torch.dtype | None = None,
    ) -> None:
        """A teacher.

        Args:
            weights: Whose.
            context: What only the teacher reads.
            render: The teacher's side of a prompt; none reads the ids that the student read, as they are.
            vocab: Ids that student and teacher share; the heads are cut to them.
            microbatch_tokens: Bound on padded tokens in one forward; the result does not depend on it.
            autocast: Arithmetic of the forward where it is not that of the weights: a self teacher must compute as the
                student does, or the two differ by rounding alone.
        """
        self._weights, self.reading = weights, Reading(weights.model, context=context, render=render)
        self._vocab, self._microbatch_tokens, self._autocast = vocab, microbatch_tokens, autocast

    @property
    def model(self) -> LanguageModel:
        """What scores."""
        return self._weights.model

    @property
    def head(self) -> Head:
        """What the hidden states of its signals enter, detached."""
        return _detached(self.model.head(self._vocab))

    def update(self, student: LanguageModel) -> None:
        """Follow the student after an optimiser step, as the recipe says."""
        self._weights.update(student)

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run cannot rebuild from the model folders it started from."""
        return self._weights.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: The state belongs to another model or another kind of teacher.
        """
        self._weights.load_state_dict(state)

    @torch.no_grad()
    def score(self, batch: StepBatch, *, only: Collection[int] | None = None) -> Scored:
        """The teacher's distribution at every row of a step, detached.

        Rollouts are scored in groups of similar length, padded on the right; neither grouping nor order changes a row.

        Args:
            batch: The step.
            only: Indices of the rollouts that are asked about, where it is not all of them; the others count as not taught.

        Raises:
            TeacherError: Not one rollout can be taught although the context lies in the data; the message counts the reasons.
                A context that depends on the step may be missing everywhere: then no row is taught.
        """
        prompts = self.reading.prompts(batch)
        reasons = tuple(prompt.reason for prompt in prompts)
        readable = self.reading.readable(prompts, only)
        taught = torch.zeros(len(prompts), dtype=torch.bool, device=batch.rollout.device)
        taught[list(readable)] = True
        head = self.head
        network, training = self.model.model, self.model.model.training
        network.eval()  # a live teacher is the student, which may be training with dropout
        with self._arithmetic():
            hidden = self._hidden(batch, readable, width=head.weight.shape[-1])
        network.train(training)
        return Scored(signal=FullSignal(hidden=hidden, head=head), rows_taught=taught[batch.rollout], reasons=reasons)

    def _hidden(self, batch: StepBatch, prompts: Mapping[int, Int[Tensor, " _"]], *, width: int) -> Tensor:
        hidden: Tensor | None = None
        rollouts = list(prompts)
        lengths = [len(prompts[index]) + len(batch.rollouts[index].response_ids) for index in rollouts]
        for group in microbatches(lengths, budget_tokens=self._microbatch_tokens):
            chosen = [rollouts[place] for place in group]
            states = row_states(self.model, batch, chosen, prompts=[prompts[index] for index in chosen])
            if hidden is None:
                hidden = states.new_zeros(batch.num_rows, states.shape[-1])
            hidden[batch.rows_of(chosen)] = states
        return torch.zeros(batch.num_rows, width, device=self.model.device) if hidden is None else hidden

    def _arithmetic(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, dtype=self._autocast, enabled=self._autocast is not None)


def _detached(head: Head) -> Head:
    return Head(
        weight=head.weight.detach(),
        bias=None if head.bias is None else head.bias.detach(),
        scale=head.scale,
        softcap=head.softcap,
    )
