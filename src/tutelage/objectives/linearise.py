"""A signal's values together with their slopes: what the fused head needs of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeGuard, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.math.supports import members
from tutelage.types import Capability, Credit, Gather, StepBatch
from tutelage.weighting.base import Rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Linearised:
    """Values per row, and their derivatives with respect to log pi_S up to multiples of pi_S (see `math.slopes`)."""

    values: Float[Tensor, " row"]
    slope: Float[Tensor, "row entry"]
    ids: Int[Tensor, "row entry"] | None = None
    """Which vocabulary entries the slope belongs to, all others having none; None means all of them in order."""

    def capped(self, cap: float) -> "Linearised":
        """Values of at most `cap`, without a slope where they would reach it."""
        beyond = self.values >= cap
        return replace(self, values=self.values.clamp(max=cap), slope=self.slope.masked_fill(beyond.unsqueeze(-1), 0.0))


@runtime_checkable
class Signal(Protocol):
    """One value in nats per row."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What it asks of the teacher."""
        ...

    def __call__(self, rows: Rows, *, teacher: str) -> Float[Tensor, " row"]:
        """Values per row; gradients flow to the student's log-probabilities."""
        ...


@runtime_checkable
class LinearSignal(Signal, Protocol):
    """A signal that knows a faster way to its slopes than differentiating `__call__` over the whole vocabulary."""

    def linearise(self, rows: Rows, *, teacher: str) -> Linearised:
        """The values of `__call__` with their slopes; both are detached."""
        ...


@runtime_checkable
class StepSignal(Signal, Protocol):
    """A signal that may depend on other tokens of the step than the row's own."""

    @property
    def scope(self) -> Literal["token", "step"]:
        """`step` where it does."""
        ...

    @property
    def statistics(self) -> frozenset[str]:
        """Names of the per-row statistics that must be measured before `credit` is asked, if the scope is `step`."""
        ...

    def credit(
        self,
        batch: StepBatch,
        measured: Mapping[str, Float[Tensor, " row"]],
        mask: Bool[Tensor, " row"],
        *,
        gather: Gather,
    ) -> Credit:
        """What the rows of the mask are worth, once per step; `gather` shows those of other processes."""
        ...


def depends_on_step(signal: object) -> TypeGuard[StepSignal]:
    """Whether a signal must see the whole step first."""
    return isinstance(signal, StepSignal) and signal.scope == "step"


def by_differentiation(signal: Signal, rows: Rows, *, teacher: str) -> Linearised:
    """Any signal, by automatic differentiation over the whole vocabulary."""
    values, slope = _differentiate(lambda leaf: signal(replace(rows, student=leaf), teacher=teacher), rows.student)
    return Linearised(values=values, slope=slope)


def of_sampled(value: Callable[[Float[Tensor, " row"]], Float[Tensor, " row"]], rows: Rows) -> Linearised:
    """A value that depends on the student through the log-probability of the row's own token alone."""
    values, slope = _differentiate(value, rows.sampled)
    return Linearised(values=values, slope=slope.unsqueeze(-1), ids=rows.batch.token.unsqueeze(-1))


def of_events(
    value: Callable[[Float[Tensor, "row event"]], Float[Tensor, " row"]],
    events: Float[Tensor, "row event"],
    ids: Int[Tensor, "row top"],
    student: Float[Tensor, "row vocab"],
    *,
    kept: Bool[Tensor, "row top"] | None = None,
) -> Linearised:
    """A value that depends on the student through a few entries and, in a last column if there is one, the rest's mass.

    Where `kept` is False the place is empty: its event has no mass and its id means nothing.
    """
    values, slope = _differentiate(value, events)
    if events.shape[-1] == ids.shape[-1]:
        return Linearised(values=values, slope=slope, ids=ids)
    rest = events.detach()[:, -1:]
    share = (student.detach() - rest.masked_fill(rest == float("-inf"), 0.0)).exp_()  # of each entry in the rest's mass
    share.mul_(slope[:, -1:])
    if kept is None:
        return Linearised(values=values, slope=share.scatter_(-1, ids, slope[:, :-1]))
    share.masked_fill_(members(student, ids, kept), 0.0)
    return Linearised(values=values, slope=share.scatter_add_(-1, ids, slope[:, :-1]))


def _differentiate(value: Callable[[Tensor], Float[Tensor, " row"]], inputs: Tensor) -> tuple[Float[Tensor, " row"], Tensor]:
    leaf = inputs.detach().requires_grad_()
    with torch.enable_grad():
        values = value(leaf)
        return values.detach(), torch.autograd.grad(values.sum(), leaf)[0]
