"""What a sampled token is worth by the teacher's log-ratio: reward, discount, baseline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from tutelage.credit import GroupRelative
from tutelage.credit.baselines import batch_mean, leave_one_out
from tutelage.credit.returns import return_to_go
from tutelage.errors import ConfigError
from tutelage.math import divergences, estimators
from tutelage.math.generators import Generator, generator
from tutelage.objectives.reshaped import Reshaped
from tutelage.objectives.supports import TopK
from tutelage.types import Capability, Gather, StepBatch
from tutelage.weighting.base import Rows

PerRow = Float[Tensor, " row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoBaseline:
    """The advantage is the return itself."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentKLBaseline:
    """The mean log-ratio under the student, which is minus the reverse KL of the prefix. Unbiased, lower variance.

    Reference: vOPD, arXiv:2605.07865.
    """

    kind: Literal["student_kl"] = "student_kl"
    k: int = 100
    """Entries kept, the student's likeliest, both sides renormalised within; 0 keeps the whole vocabulary."""

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ConfigError(f"StudentKLBaseline needs k >= 0 (0 = whole vocabulary), got {self.k!r}.")

    def __call__(self, rows: Rows, *, teacher: str) -> PerRow:
        """What is subtracted from the log-ratio, in nats per row."""
        if self.k == 0:
            return divergences.expectation(rows.probabilities, rows.log_ratios(teacher))
        return -estimators.kl_baseline(rows.student, rows.teachers[teacher].full(), k=self.k)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopKLBaseline:
    """Minus the reverse KL on the teacher's likeliest entries and one event for the rest: what a served teacher can give.

    A lower bound of the prefix' KL. Like every baseline that does not depend on the token it leaves the mean gradient, that of
    the whole reverse KL, as it is.
    """

    kind: Literal["top_k_kl"] = "top_k_kl"
    k: int = 20
    """The teacher's likeliest entries."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"TopKLBaseline needs k >= 1, got {self.k!r}.")

    def __call__(self, rows: Rows, *, teacher: str) -> PerRow:
        """What is subtracted from the log-ratio, in nats per row."""
        own, theirs = TopK(k=self.k).restrict(rows, teacher=teacher)
        return -divergences.reverse_kl(own.detach(), theirs)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchMean:
    """The mean over all of the student's tokens of the step. Biased by about one part in the number of tokens."""

    kind: Literal["batch_mean"] = "batch_mean"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaveOneOut:
    """The mean over the tokens of the other responses to the same prompt. Unbiased; needs n > 1."""

    kind: Literal["leave_one_out"] = "leave_one_out"


Baseline = Annotated[NoBaseline | StudentKLBaseline | TopKLBaseline | BatchMean | LeaveOneOut, Field(discriminator="kind")]


DivergenceName = Literal[
    "reverse_kl",
    "forward_kl",
    "jensen_shannon",
    "skew_forward_kl",
    "skew_reverse_kl",
    "alpha",
    "jeffreys",
    "total_variation",
    "hellinger",
    "chi_square_forward",
    "chi_square_reverse",
]
_SHAPES = {"jensen_shannon": "beta", "skew_forward_kl": "alpha", "skew_reverse_kl": "alpha", "alpha": "alpha"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LogRatio:
    """`coefficient (log pi_T - log pi_S)` of the sampled token and, discounted, of those after it, less a baseline.

    Another divergence than the reverse KL puts its corrected reward `w_f(u) = -f(u) + u f'(u)`, `u = pi_T / pi_S`, in the place
    of the log-ratio; the naive `-f(u)` would be biased (OPD+, arXiv:2606.01039).

    With discount 0 its score function has the gradient of the reverse KL of each prefix, with discount 1 that of the
    reverse KL of whole responses (identity U1; MiniLLM, arXiv:2306.08543).
    """

    kind: Literal["log_ratio"] = "log_ratio"
    coefficient: float = 1.0
    """Factor on the log-ratio (`kl_penalty_coef`)."""
    relative_to: Literal["behaviour", "student"] = "behaviour"
    """Whose log-probability the teacher's is compared with: the sampler's, as in the released code, or the one that the
    trainer recomputes. They are equal where both agree; with stale rollouts only `student` aims at KL(pi_S || pi_T)."""
    divergence: DivergenceName = "reverse_kl"
    """Of which divergence the gradient is to be."""
    shape: float | None = None
    """`beta` of jensen_shannon, or `alpha` of alpha and the skew KLs; none takes their own default."""
    bound: float | None = None
    """Bound in nats on the size of one token's log-ratio; none leaves it. Biased where it acts. OPD+ scripts use 6."""
    floor: float | None = None
    """Lower bound in nats, below zero, on one token's log-ratio; none leaves it. Biased where it acts: a token that the teacher
    would almost never write counts no worse than this. REOPOLD, arXiv:2603.11137."""
    discount: float = 0.0
    """Weight of a token's log-ratio in the return of the token before it, in [0, 1]."""
    length_normalised: bool = False
    """Divide a return by the sum of its discounts."""
    baseline: Baseline = NoBaseline()
    """What is subtracted."""

    def __post_init__(self) -> None:
        if self.shape is not None and self.divergence not in _SHAPES:
            raise ConfigError(
                f"LogRatio has shape {self.shape!r}, and {self.divergence} has none; only {', '.join(_SHAPES)} do."
            )
        if self.divergence != "reverse_kl":
            try:
                _ = self._generator()
            except (TypeError, ValueError) as error:
                raise ConfigError(f"LogRatio with divergence {self.divergence} and shape {self.shape!r}: {error}") from error
            if isinstance(self.baseline, StudentKLBaseline | TopKLBaseline):
                raise ConfigError(
                    f"LogRatio has divergence {self.divergence} and the KL baseline, which is the mean of the reverse KL's "
                    "reward. Use leave_one_out, batch_mean or none."
                )
        if not 0.0 <= self.discount <= 1.0:
            raise ConfigError(f"LogRatio needs 0 <= discount <= 1, got {self.discount!r}.")
        if self.bound is not None and self.bound <= 0.0:
            raise ConfigError(f"LogRatio needs bound > 0 or none at all, got {self.bound!r}.")
        if self.floor is not None and self.floor >= 0.0:
            raise ConfigError(f"LogRatio needs floor < 0 or none at all, got {self.floor!r}.")
        if self.discount > 0.0 and isinstance(self.baseline, StudentKLBaseline | TopKLBaseline):
            raise ConfigError(
                f"LogRatio has discount {self.discount!r} and the KL baseline, which is the mean of one token's log-ratio and "
                "not of a return. Use leave_one_out or batch_mean, or discount 0."
            )

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's log-probability of the sampled token; for a KL baseline, those of the student's or its own entries."""
        match self.baseline:
            case StudentKLBaseline():
                return frozenset({"sampled", "full"})
            case TopKLBaseline():
                return frozenset({"sampled", "top_k"})
            case _:
                return frozenset({"sampled"})

    @property
    def scope(self) -> Literal["token", "step"]:
        """`step` where other tokens take part."""
        return "step" if self.discount > 0.0 or isinstance(self.baseline, BatchMean | LeaveOneOut) else "token"

    @property
    def statistics(self) -> frozenset[str]:
        """What must be measured before the step's advantages can be computed."""
        own = {"student_log_prob"} if self.relative_to == "student" else set[str]()
        return frozenset({"teacher_log_prob"} | own)

    def of_tokens(self, rows: Rows, *, teacher: str) -> PerRow:
        """Advantages of scope `token`, in nats; detached."""
        found = self._reward(rows.teachers[teacher].sampled, rows.sampled.detach(), rows.batch)
        if isinstance(self.baseline, StudentKLBaseline | TopKLBaseline):
            found = found - self.coefficient * self.baseline(rows, teacher=teacher)
        return found

    def __call__(
        self, batch: StepBatch, measured: Mapping[str, PerRow], mask: Bool[Tensor, " row"], *, gather: Gather
    ) -> PerRow:
        """Advantages of scope `step`, in nats; detached."""
        own = measured["student_log_prob"] if self.relative_to == "student" else batch.behaviour_log_probs
        rewards = self._reward(measured["teacher_log_prob"].double(), own.double(), batch)
        returns = return_to_go(
            torch.where(mask, rewards, 0.0),
            batch,
            mask,
            discount=self.discount,
            length_normalised=self.length_normalised,
        )
        match self.baseline:
            case BatchMean():
                return returns - batch_mean(returns, mask, gather=gather)
            case LeaveOneOut():
                return returns - leave_one_out(returns, batch, mask)
            case _:
                return returns

    def _reward(self, theirs: PerRow, own: PerRow, batch: StepBatch) -> PerRow:
        origin = batch.behaviour_log_probs if self.relative_to == "behaviour" else own
        log_ratio = theirs - origin
        if self.bound is not None:
            log_ratio = log_ratio.clamp(-self.bound, self.bound)
        if self.floor is not None:
            log_ratio = log_ratio.clamp(min=self.floor)
        if self.divergence == "reverse_kl":  # w = log u - 1, and no constant changes a mean gradient
            return self.coefficient * log_ratio
        return self.coefficient * self._generator().corrected_reward(log_ratio)

    def _generator(self) -> Generator:
        shape = {} if self.shape is None else {_SHAPES[self.divergence]: self.shape}
        return generator(self.divergence, **shape)


AnyAdvantage = Annotated[LogRatio | GroupRelative | Reshaped, Field(discriminator="kind")]
