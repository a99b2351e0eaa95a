"""Supervised training as signals: what the token that was written costs, whoever wrote it."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.objectives.linearise import Linearised, of_sampled
from tutelage.types import Capability
from tutelage.weighting.base import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossEntropy:
    """`-log pi_S` of the token that was written: supervised training, no teacher needed at this point."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing of the teacher."""
        return frozenset()

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """Negative log-likelihood per row."""
        return -rows.sampled

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values, and slopes at the tokens that were written only."""
        return of_sampled(torch.neg, rows)
