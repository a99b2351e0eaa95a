"""Score functions: the log-probability of the sampled token, weighed by an advantage that carries no gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.objectives.advantages import AnyAdvantage, LogRatio
from tutelage.objectives.linearise import Linearised, of_sampled
from tutelage.objectives.ratios import AnyRatio, Importance
from tutelage.types import Capability, Credit, Gather, StepBatch, VerdictField
from tutelage.weighting.base import Rows, verdicts_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreFunction:
    """Policy gradient at the sampled token: `-rho sg[A] log pi_S`, its parts being the advantage and the ratio.

    The value is a surrogate with the right gradient; it does not measure anything. Acts on tokens that the student wrote.

    Reference: sampled-token OPD (Thinking Machines, 2025-10); identity U1.
    """

    kind: Literal["score_function"] = "score_function"
    advantage: AnyAdvantage = LogRatio()
    """What the token is worth."""
    ratio: AnyRatio = Importance()
    """How tokens of a sampler that is not quite the student are corrected for."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What the advantage asks."""
        return self.advantage.needs

    @property
    def verdicts(self) -> frozenset[VerdictField]:
        """What the advantage asks of the verifier."""
        return verdicts_of(self.advantage)

    @property
    def scope(self) -> Literal["token", "step"]:
        """`step` where the advantage depends on other tokens."""
        return self.advantage.scope

    @property
    def statistics(self) -> frozenset[str]:
        """What the advantage asks to be measured."""
        return self.advantage.statistics

    def credit(
        self,
        batch: StepBatch,
        measured: Mapping[str, Float[Tensor, " row"]],
        mask: Bool[Tensor, " row"],
        *,
        gather: Gather,
    ) -> Credit:
        """Advantages of the whole step."""
        return Credit(advantage=self.advantage(batch, measured, mask, gather=gather))

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The surrogate per row."""
        return self._surrogate(rows.sampled, rows, teacher)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values, and slopes at the sampled tokens only."""
        return of_sampled(lambda sampled: self._surrogate(sampled, rows, teacher), rows)

    def _surrogate(self, sampled: Float[Tensor, " row"], rows: Rows, teacher: str) -> Float[Tensor, " row"]:
        if isinstance(self.advantage, LogRatio) and self.scope == "token":
            advantage = self.advantage.of_tokens(rows, teacher=teacher)
        else:
            advantage = rows.credited.advantage.to(sampled.dtype)
        return self.ratio(sampled, rows.batch.behaviour_log_probs, advantage)
