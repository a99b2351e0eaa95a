"""The student's entropy as a signal."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from tutelage.math import divergences
from tutelage.objectives.linearise import Linearised
from tutelage.types import Capability
from tutelage.weighting.base import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class NegativeEntropy:
    """`sum_v pi_S log pi_S`: minus the student's entropy in nats. Its term with a positive scale is an entropy bonus.

    Gradient with respect to the logits: `pi_S (log pi_S + H)`. Lowest, `-log V`, at the uniform distribution.
    """

    kind: Literal["negative_entropy"] = "negative_entropy"

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing of the teacher."""
        return frozenset()

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The negative entropy per row."""
        return -divergences.entropy(rows.student)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values and slopes in closed form."""
        slope = rows.probabilities * rows.student.detach()
        return Linearised(values=slope.sum(dim=-1), slope=slope)
