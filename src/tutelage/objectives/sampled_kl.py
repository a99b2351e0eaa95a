"""Monte-Carlo estimates of the reverse KL, differentiated as they stand."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from tutelage.math import estimators
from tutelage.objectives.linearise import Linearised, of_sampled
from tutelage.types import Capability
from tutelage.weighting.base import Rows

_ESTIMATORS = {"k1": estimators.k1, "k2": estimators.k2, "k3": estimators.k3}


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledKL:
    """k1, k2 or k3 of the sampled token as a loss, whose value and gradient belong to different divergences.

    | estimator | value estimates | mean gradient, tokens drawn from the student |
    |---|---|---|
    | k1 | KL(pi_S, pi_T), unbiased | zero: nothing is learnt |
    | k2 | KL(pi_S, pi_T), biased | that of KL(pi_S, pi_T) |
    | k3 | KL(pi_S, pi_T), unbiased | that of KL(pi_T, pi_S); with `importance` "differentiated" that of KL(pi_S, pi_T) |

    Reference: identity U2; Schulman's note on approximating KL divergences (2020) for the names
    of the three.
    """

    kind: Literal["sampled_kl"] = "sampled_kl"
    against: Literal["teacher", "behaviour"] = "teacher"
    """What stands in the teacher's place: the teacher, or whoever drew the token, as an anchor on responses that are kept."""
    estimator: Literal["k1", "k2", "k3"] = "k2"
    """Which function of the log-ratio."""
    importance: Literal["none", "detached", "differentiated"] = "none"
    """Weigh by pi_S / mu, with or without a gradient through it: `differentiated` gives k1 and k3 the gradient of their
    value."""

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probability of the sampled token, unless the sampler stands in its place."""
        return frozenset({"sampled"} if self.against == "teacher" else ())

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """The estimate per row, in nats."""
        return self._estimate(rows.sampled, rows, teacher)

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """Values, and slopes at the sampled tokens only."""
        return of_sampled(lambda sampled: self._estimate(sampled, rows, teacher), rows)

    def _estimate(self, sampled: Float[Tensor, " row"], rows: Rows, teacher: str) -> Float[Tensor, " row"]:
        other = rows.teachers[teacher].sampled if self.against == "teacher" else rows.batch.behaviour_log_probs
        found = _ESTIMATORS[self.estimator](other - sampled)
        if self.importance == "none":
            return found
        ratio = (sampled - rows.batch.behaviour_log_probs).exp()
        return found * (ratio.detach() if self.importance == "detached" else ratio)
