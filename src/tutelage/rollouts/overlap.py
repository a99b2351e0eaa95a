"""How near a given response lies to what the student would have written."""

from collections.abc import Sequence
from typing import final

import torch

from tutelage.models import LanguageModel
from tutelage.models.row_states import microbatches, row_states
from tutelage.rollouts.decoding import without_dropout
from tutelage.types import Rollout, StepBatch

_ROWS_AT_ONCE = 1024  # logits of so many tokens are held at a time


@final
class TopOverlap:
    """The share of a response's tokens that are among the student's likeliest entries at their place."""

    def __init__(self, student: LanguageModel, *, vocab: int, microbatch_tokens: int) -> None:
        """Ask the student as it is at each call; only ids below `vocab` count."""
        self._student, self._vocab, self._tokens = student, vocab, microbatch_tokens

    @torch.no_grad()
    def __call__(self, rollouts: Sequence[Rollout], *, k: int) -> list[float]:
        """One share in [0, 1] per response; an empty one has 0."""
        batch = StepBatch.of(rollouts).to(self._student.device)
        hits = torch.zeros(batch.num_rows, dtype=torch.float64, device=batch.token.device)
        lengths = [len(rollout.prompt_ids) + len(rollout.response_ids) for rollout in rollouts]
        with without_dropout(self._student):
            for group in microbatches(lengths, budget_tokens=self._tokens):
                rows = batch.rows_of(group)
                states = row_states(self._student, batch, group, prompts=[rollouts[index].prompt_ids for index in group])
                for part, at in zip(states.split(_ROWS_AT_ONCE), rows.split(_ROWS_AT_ONCE), strict=True):
                    top = self._student.logits(part, self._vocab).topk(min(k, self._vocab), dim=-1).indices
                    hits[at] = (top == batch.token[at].unsqueeze(-1)).any(dim=-1).double()
        totals = torch.zeros(len(rollouts), dtype=torch.float64, device=hits.device).index_add_(0, batch.rollout, hits)
        counts = batch.rollout.bincount(minlength=len(rollouts)).clamp(min=1)
        return (totals / counts).tolist()
