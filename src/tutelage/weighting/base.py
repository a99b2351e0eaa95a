"""What a signal or a token weight sees: a chunk of rows with log-probabilities, and the two kinds of weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.types import Capability, Credit, Gather, SpanSignal, StepBatch, VerdictField


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherRows:
    """What one teacher said about the rows of a chunk; everything is detached, in nats, at the teacher's temperature."""

    log_probs: Float[Tensor, "row vocab"] | None = None
    top_ids: Int[Tensor, "row top"] | None = None
    top_log_probs: Float[Tensor, "row top"] | None = None
    sampled: Float[Tensor, " row"]
    """Log-probability of each row's own token; NaN, so that no use of it passes unseen, where the teacher gives none."""
    weighted: SpanSignal | None = None
    """What the spans are worth that the rows lie in."""

    def spans(self) -> SpanSignal:
        """What the spans are worth that the rows lie in.

        Raises:
            ConfigError: The teacher weighs no spans.
        """
        if self.weighted is None:
            raise ConfigError("A term asked for the weights of spans, and this teacher does not provide them.")
        return self.weighted

    def full(self) -> Float[Tensor, "row vocab"]:
        """Log-probabilities of every entry.

        Raises:
            ConfigError: The teacher gives less than its whole distribution.
        """
        if self.log_probs is None:
            raise ConfigError("A term asked for a teacher's whole distribution, and this teacher does not provide it.")
        return self.log_probs

    @cached_property
    def probabilities(self) -> Float[Tensor, "row vocab"]:
        """Of every entry."""
        return self.full().exp()

    def take(self, rows: Int[Tensor, " chosen"]) -> "TeacherRows":
        """Some of the rows."""
        return TeacherRows(
            log_probs=None if self.log_probs is None else self.log_probs[rows],
            top_ids=None if self.top_ids is None else self.top_ids[rows],
            top_log_probs=None if self.top_log_probs is None else self.top_log_probs[rows],
            sampled=self.sampled[rows],
            weighted=None if self.weighted is None else self.weighted.select(rows),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """A chunk of a step as the objective sees it."""

    student: Float[Tensor, "row vocab"]
    """Log-probabilities in nats at the student's temperature; gradients flow."""
    teachers: Mapping[str, TeacherRows]
    """By name."""
    batch: StepBatch
    """The chunk's token ids, authors, positions, behaviour log-probs and noise."""
    compiled: bool = False
    """Whether element-wise work may go through `torch.compile`."""
    credit: Credit | None = None
    """What the term at hand found out about the whole step, if its signal asks for that."""
    _log_ratios: dict[str, Float[Tensor, "row vocab"]] = field(init=False, default_factory=dict[str, Tensor])

    @cached_property
    def sampled(self) -> Float[Tensor, " row"]:
        """Student log-probability of each row's own token; gradients flow."""
        return self.student.gather(-1, self.batch.token.unsqueeze(-1)).squeeze(-1)

    @cached_property
    def probabilities(self) -> Float[Tensor, "row vocab"]:
        """The student's, of every entry; detached, computed once for all terms and statistics."""
        return self.student.detach().exp()

    def log_ratios(self, teacher: str) -> Float[Tensor, "row vocab"]:
        """`log pi_T - log pi_S` of every entry; detached, computed once for all terms and statistics."""
        if teacher not in self._log_ratios:
            self._log_ratios[teacher] = self.teachers[teacher].full() - self.student.detach()
        return self._log_ratios[teacher]

    def log_ratio(self, teacher: str) -> Float[Tensor, " row"]:
        """`log pi_T - log pi_S` of each row's own token; detached."""
        return self.teachers[teacher].sampled - self.sampled.detach()

    @property
    def credited(self) -> Credit:
        """What the term at hand found out about the whole step.

        Raises:
            ConfigError: Nothing was: the plan was made without this term.
        """
        if self.credit is None:
            raise ConfigError("A signal asked for advantages of the whole step, which only objectives.plan can compute.")
        return self.credit

    def take(self, rows: Int[Tensor, " chosen"]) -> "Rows":
        """Some of the rows."""
        return Rows(
            student=self.student[rows],
            teachers={name: teacher.take(rows) for name, teacher in self.teachers.items()},
            batch=self.batch.select(rows),
            compiled=self.compiled,
            credit=None if self.credit is None else self.credit.select(rows),
        )


@runtime_checkable
class TokenWeight(Protocol):
    """A weight that needs the token's own distributions only: computed inside the chunk, in the same pass."""

    scope: ClassVar[Literal["token"]]

    @property
    def needs(self) -> frozenset[Capability]:
        """What it asks of the teacher."""
        ...

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """One non-negative factor per row; detached."""
        ...


@runtime_checkable
class RandomWeight(TokenWeight, Protocol):
    """A token weight that draws, and does so only by comparing a row's noise with a threshold.

    Whoever wants the mean over the draws, as the exact oracle of `lab.exact` does, weighs the two sides of the threshold.
    """

    def threshold(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """A number per row in [0, 1]: the weight is one constant for all noise below it and another for all other noise."""
        ...


Measured = Mapping[str, Float[Tensor, " row"]]
"""Per-row statistics of a whole step, by name, against the recipe's own teacher; detached."""


@runtime_checkable
class RowStatistic(Protocol):
    """A number per row that is measured before the step's coefficients are fixed, beside those that every step has."""

    @property
    def name(self) -> str:
        """Under which it is found among the measured; two with one name are the same statistic."""
        ...

    @property
    def needs(self) -> frozenset[Capability]:
        """What it asks of the teacher."""
        ...

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """One number per row; detached."""
        ...


@runtime_checkable
class StepWeight(Protocol):
    """A weight that depends on other tokens of the step: computed once per step from measured statistics."""

    scope: ClassVar[Literal["step"]]

    @property
    def statistics(self) -> frozenset[str]:
        """Names of the per-row statistics of `objectives.statistics` that must be measured first."""
        ...

    @property
    def measures(self) -> tuple[RowStatistic, ...]:
        """Further statistics that must be measured first."""
        ...

    @property
    def needs(self) -> frozenset[Capability]:
        """What it asks of the teacher."""
        ...

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, step: int, gather: Gather
    ) -> Float[Tensor, " row"]:
        """One non-negative factor per row of this process; detached.

        Args:
            batch: All rows of the step on this process.
            measured: What was measured on them; NaN where a teacher could not say.
            mask: The rows that the term acts on; what is returned elsewhere is never read.
            step: Optimiser step, for settings that move.
            gather: Shows the values of the other processes.
        """
        ...


@runtime_checkable
class DrawingWeight(Protocol):
    """A weight of the whole step that draws, by the rows' noise: what it gives one token depends on the others' noise too.

    `lab.exact`, which integrates over noise row by row, cannot take its mean.
    """

    scope: ClassVar[Literal["step"]]
    draws: ClassVar[Literal[True]]


Part = TypeVar("Part")


@runtime_checkable
class Resolvable(Protocol):
    """A part of a recipe that names tokens by their text, which a tokenizer has to turn into ids."""

    def resolved(self: Part, lookup: Callable[[str], int | None]) -> Part:
        """The same part with the ids of the tokens that the vocabulary has."""
        ...


@runtime_checkable
class Route(Protocol):
    """Which rows a term acts on at all, by the rollout that they lie in."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What it asks of the teacher."""
        ...

    @property
    def statistics(self) -> frozenset[str]:
        """Names of the per-row statistics that must be measured first."""
        ...

    def __call__(
        self, batch: StepBatch, measured: Measured, mask: Bool[Tensor, " row"], *, gather: Gather
    ) -> Bool[Tensor, " row"]:
        """True where the term acts, among the rows of the mask; the others' values are never read."""
        ...


@runtime_checkable
class AsksVerifier(Protocol):
    """A part of a recipe that can do nothing unless a verifier has spoken."""

    @property
    def verdicts(self) -> frozenset[VerdictField]:
        """What the verifier must give."""
        ...


def verdicts_of(part: object) -> frozenset[VerdictField]:
    """What a part of a recipe asks of the verifier; nothing, for most."""
    return part.verdicts if isinstance(part, AsksVerifier) else frozenset()
