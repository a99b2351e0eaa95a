"""Supervised training as signals: what the token that was written costs, whoever wrote it."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.objectives.linearise import Linearised, of_sampled
from tutelage.types import Capability
from tutelage.weighting.base import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossEntropy:
    """`-sum_v target(v) log pi_S(v)`: supervised training on a hard or a soft target.

    Limit cases: the soft target's value is the forward KL plus the teacher's entropy, and its gradient the forward KL's;
    without smoothing the hard target is the token itself.
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
    target: Literal["token", "teacher_choice", "teacher"] = "token"
    """`token`: the one that was written; no teacher needed. `teacher_choice`: the teacher's likeliest entry at this point.
    `teacher`: its whole distribution."""
    smoothing: float = 0.0
    """Share of the target that is spread evenly over the vocabulary, in [0, 1)."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.smoothing < 1.0:
            raise ConfigError(f"CrossEntropy needs 0 <= smoothing < 1, got {self.smoothing!r}.")

    @property
    def needs(self) -> frozenset[Capability]:
        """What the target takes of the teacher."""
        if self.target == "token":
            return frozenset()
        return frozenset({"full" if self.target == "teacher" else "top_k"})

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """Cross-entropy per row, in nats."""
        kept = 1.0 - self.smoothing
        if self.target == "teacher":
            target = rows.teachers[teacher].probabilities
            found = -kept * torch.where(target > 0.0, target * rows.student, 0.0).sum(dim=-1)
        else:
            found = -kept * rows.student.gather(-1, self._hard(rows, teacher)).squeeze(-1)
        return found if self.smoothing == 0.0 else found - self.smoothing * rows.student.mean(dim=-1)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values, and slopes in closed form."""
        kept, even = 1.0 - self.smoothing, -self.smoothing / rows.student.shape[-1]
        values = self(rows, teacher=teacher).detach()
        if self.target == "teacher":
            return Linearised(values=values, slope=even - kept * rows.teachers[teacher].probabilities)
        ids = self._hard(rows, teacher)
        if self.smoothing == 0.0:
            return Linearised(values=values, slope=-torch.ones_like(values).unsqueeze(-1), ids=ids)
        slope = torch.full_like(rows.student, even).scatter_add_(-1, ids, values.new_full(ids.shape, -kept))
        return Linearised(values=values, slope=slope)

    def _hard(self, rows: Rows, teacher: str) -> Tensor:
        if self.target == "token":
            return rows.batch.token.unsqueeze(-1)
        theirs = rows.teachers[teacher]
        if theirs.log_probs is None and theirs.top_ids is not None:
            return theirs.top_ids[:, :1]
        return theirs.full().argmax(dim=-1, keepdim=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanLikelihood:
    """`-weight(span) log pi_S` of the tokens of weighted spans; tokens outside any span cost nothing.

    For teachers that can only say how much a passage of the response is worth (text-only and cross-tokenizer ones).
    Reference: the span term of OmniOPD, arXiv:2606.01476.
    """

    kind: Literal["span_likelihood"] = "span_likelihood"
    length_normalised: bool = False
    """Divide a span's weight by its number of tokens, so that long spans do not count for more."""

    @property
    def needs(self) -> frozenset[Capability]:
        """A teacher that weighs spans."""
        return frozenset({"spans"})

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """Weighted negative log-likelihood per row, in nats times the unit of the weights."""
        return self._weighted(rows.sampled, rows, teacher)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values, and slopes at the tokens that were written only."""
        return of_sampled(lambda sampled: self._weighted(sampled, rows, teacher), rows)

    def _weighted(self, sampled: Float[Tensor, " row"], rows: Rows, teacher: str) -> Float[Tensor, " row"]:
        spans = rows.teachers[teacher].spans()
        weight = spans.weight / spans.length.clamp(min=1.0) if self.length_normalised else spans.weight
        return -weight.to(sampled.dtype) * sampled
