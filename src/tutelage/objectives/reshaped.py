"""A reward's advantage, spread over the tokens as a teacher finds them likely."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.credit import GroupRelative
from tutelage.errors import ConfigError
from tutelage.types import Capability, Gather, StepBatch, VerdictField


@dataclass(frozen=True, kw_only=True, slots=True)
class Reshaped:
    """`A clip(exp(sign(A) (log pi_T - log pi_S)), 1 - clip, 1 + clip)`: the sign is the reward's, the teacher moves the size.

    A token of a good response counts for more where the teacher finds it likelier than the student does, one of a bad
    response where it finds it less likely.

    Reference: RLSD, arXiv:2604.03128. Its blend `A ((1 - lambda) + lambda w)` is two terms, this one with scale lambda and
    the plain reward with scale 1 - lambda; ratios of the two agree, since both have the sign of A.
    """

    kind: Literal["reshaped"] = "reshaped"
    reward: GroupRelative = GroupRelative()
    """What the response is worth."""
    clip: float = 0.2
    """Farthest that a token's factor may lie from 1, in [0, 1); 0 leaves the reward's advantage."""

    scope: ClassVar[Literal["step"]] = "step"
    statistics: ClassVar[frozenset[str]] = frozenset({"student_log_prob", "teacher_log_prob"})
    verdicts: ClassVar[frozenset[VerdictField]] = frozenset({"reward"})

    def __post_init__(self) -> None:
        if not 0.0 <= self.clip < 1.0:
            raise ConfigError(f"Reshaped needs 0 <= clip < 1, got {self.clip!r}: at 1 a token's advantage could vanish.")

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probability of the sampled token."""
        return frozenset({"sampled"})

    def __call__(
        self, batch: StepBatch, measured: Mapping[str, Float[Tensor, " row"]], mask: Bool[Tensor, " row"], *, gather: Gather
    ) -> Float[Tensor, " row"]:
        """One advantage per row."""
        worth = self.reward(batch, measured, mask, gather=gather)
        log_ratio = measured["teacher_log_prob"].double() - measured["student_log_prob"].double()
        return worth * (worth.sign() * log_ratio).exp().clamp(1.0 - self.clip, 1.0 + self.clip)
