"""What a term's signal found out about the whole step before any gradient is taken."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Credit:
    """One advantage and one value per row; everything is detached.

    A loss that is no sum over tokens (preferences, returns) becomes this: its derivative with respect to each token's
    log-probability, negated, and shares of its value. The gradient is the same, and the step may be split anywhere.
    """

    advantage: Float[Tensor, " row"]
    """What raising log pi_S of the row's token is worth."""
    value: Float[Tensor, " row"] | None = None
    """The row's share of the loss; None where the loss is a surrogate whose value means nothing."""

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "Credit":
        """The same for some of the rows."""
        return Credit(advantage=self.advantage[rows], value=None if self.value is None else self.value[rows])
