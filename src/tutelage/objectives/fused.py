"""The fused head: any sum of terms from hidden states and heads, with the gradient taken in the forward.

For a panel of rows: two products give both sides' logits, the terms give the gradient with respect to the student's logits
tile by tile, and two more products carry it to the hidden states and the head. Four `vocab x width` products per row in all,
and no [row, vocab] tensor outlives its panel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tutelage.errors import ConfigError, NumericsError
from tutelage.objectives.hidden_match import HiddenMatch
from tutelage.objectives.linearise import Linearised, LinearSignal, Signal, by_differentiation
from tutelage.objectives.panels import Budget, Temperatures, walk
from tutelage.objectives.plan import Plan
from tutelage.objectives.statistics import STATISTICS, blank, describe, measure
from tutelage.objectives.terms import Term
from tutelage.types import FullSignal, Head, StepBatch, TeacherSignal
from tutelage.weighting.base import Rows

__all__ = ["STATISTICS", "Budget", "Evaluation", "Temperatures", "evaluate", "measure"]


_ENTRIES_AT_ONCE = 16384
"""Vocabulary entries whose weights' gradient is held in reduced precision at a time."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """What an objective gave."""

    loss: Float[Tensor, ""]
    """The sum of all terms over the rows at hand; may be differentiated once."""
    terms: Mapping[str, float]
    """Each term's share of the loss."""
    weights: Mapping[str, float]
    """Mean token weight of each term over the tokens it acts on: the share that a mask keeps."""
    counted: Mapping[str, int]
    """Tokens that each term's reduction counted among these rows, over which its mean weight is taken."""
    statistics: Mapping[str, Float[Tensor, " row"]]
    """Per-row statistics, detached, and `token_weight`, the sum of the terms' weights; empty unless asked for."""


def evaluate(
    plan: Plan,
    batch: StepBatch,
    *,
    hidden: Float[Tensor, "row width"],
    head: Head,
    teachers: Mapping[str, TeacherSignal],
    temperatures: Temperatures = Temperatures(),
    budget: Budget = Budget(),
    statistics: bool = False,
) -> Evaluation:
    """The sum of a plan's terms over some rows, in nats, differentiable with respect to `hidden` and the head once.

    Rows on which no term acts cost nothing unless statistics are asked for.

    Args:
        plan: Terms and coefficients for exactly these rows.
        batch: The rows.
        hidden: The student's last hidden state that predicts each row's token.
        head: The student's output layer. Frozen weights cost no gradient product.
        teachers: What each teacher said about these rows.
        temperatures: Of the two softmaxes.
        budget: Memory and type of the products.
        statistics: Also return per-row statistics.

    Raises:
        NumericsError: A value is not finite; the message names the rollout and the position.
        ConfigError: A term asks for more than its teacher gives.
    """
    counts = (plan.coefficients != 0.0).sum(dim=1)
    acting = plan.acting.any(dim=0)
    if not statistics and not bool(acting.all()):
        rows = acting.nonzero().squeeze(-1)
        plan, batch, hidden = plan.select(rows), batch.select(rows), hidden[rows]
        teachers = {name: signal.select(rows) for name, signal in teachers.items()}
    exact = torch.promote_types(hidden.dtype, torch.float32)
    work = _Work(plan, batch, head, teachers, temperatures, budget, exact=exact, statistics=statistics)
    wanted = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (hidden, head.weight, head.bias))
    with torch.autocast(hidden.device.type, enabled=False):
        if wanted:
            loss = cast(Tensor, _FusedHead.apply(hidden, head.weight, head.bias, work))  # pyright: ignore  # untyped in torch
        else:
            loss = work.run(hidden.detach(), None)
    names = [term.name for term in plan.terms]
    return Evaluation(
        loss=loss,
        terms={name: float(value) for name, value in zip(names, work.losses.cpu(), strict=True)},
        weights={name: float(value) for name, value in zip(names, (work.weights / counts.clamp(min=1)).cpu(), strict=True)},
        counted={name: int(value) for name, value in zip(names, counts.cpu(), strict=True)},
        statistics=work.statistics | ({"token_weight": work.token_weights} if statistics else {}),
    )


@final
class _Work:
    """One evaluation: its inputs, and what the walk over the rows leaves behind."""

    def __init__(
        self,
        plan: Plan,
        batch: StepBatch,
        head: Head,
        teachers: Mapping[str, TeacherSignal],
        temperatures: Temperatures,
        budget: Budget,
        *,
        exact: torch.dtype,
        statistics: bool,
    ) -> None:
        self._plan, self._batch, self._head, self._teachers = plan, batch, head, teachers
        self._temperatures, self._budget, self._exact = temperatures, budget, exact
        self._acting = plan.acting.cpu()
        self._values = torch.zeros(batch.num_rows, dtype=torch.float64, device=batch.token.device)
        self.losses = torch.zeros(len(plan.terms), dtype=torch.float64, device=batch.token.device)
        self.weights = torch.zeros_like(self.losses)
        self.token_weights = torch.zeros(batch.num_rows, device=batch.token.device)
        self.statistics = blank(batch, dtype=exact) if statistics else {}

    def run(self, hidden: Float[Tensor, "row width"], carry: "_Gradients | None") -> Float[Tensor, ""]:
        """The loss; every panel's gradient goes to `carry`."""
        everything = slice(0, self._batch.num_rows)
        beside = [index for index, term in enumerate(self._plan.terms) if _needs_no_head(term)]
        for index in beside:
            weight = self._plan.weights[index]
            self._match(index, everything, hidden, weight, carry)
        if len(beside) == len(self._plan.terms) and not self.statistics:
            if carry is not None:
                carry.nothing_from_the_head()
            return self._finished()
        panels = walk(
            self._batch,
            hidden=hidden,
            head=self._head,
            teachers=self._teachers,
            temperatures=self._temperatures,
            budget=self._budget,
        )
        for panel in panels:
            for rows, product, view in panel.tiles():
                slope: Tensor | None = None
                for index, term in enumerate(self._plan.terms):
                    if index not in beside and bool(self._acting[index, rows].any()):
                        weight = self._weigh(index, term, rows, view)
                        if isinstance(term.signal, HiddenMatch):
                            self._match(index, rows, hidden, weight, carry)
                        else:
                            found, factor = self._add(index, term.signal, rows, view, weight)
                            slope = _plus(slope, found, factor, like=view.student) if carry is not None else None
                if self.statistics:
                    describe(self.statistics, rows, view, self._plan.terms[0].teacher)
                if slope is not None:
                    panel.student.pull_back_(slope, view.probabilities, product)
                elif carry is not None:
                    product.zero_()
            if carry is not None:
                carry.add(panel.rows, hidden[panel.rows], panel.product, panel.student.weight)
        return self._finished()

    def _finished(self) -> Float[Tensor, ""]:
        self._require_finite()
        return self.losses.sum().to(self._exact)

    def _weigh(self, index: int, term: Term, rows: slice, view: Rows) -> Float[Tensor, " row"]:
        """The product of all of a term's weights on a tile."""
        weight = self._plan.weights[index, rows]
        for part in term.weights:
            if part.scope == "token":
                weight = weight * part(view, teacher=term.teacher)
        return weight

    def _count(self, index: int, rows: slice, values: Float[Tensor, " row"], weight: Float[Tensor, " row"]) -> None:
        """Book what a term gave on some rows."""
        self._values[rows] += values
        self.losses[index] += values.sum()
        weight = torch.where(self._plan.coefficients[index, rows] != 0.0, weight, 0.0)
        self.weights[index] += weight.sum()
        self.token_weights[rows] += weight

    def _match(
        self,
        index: int,
        rows: slice,
        hidden: Float[Tensor, "all width"],
        weight: Float[Tensor, " row"],
        carry: "_Gradients | None",
    ) -> None:
        """A term on hidden states: neither head takes part."""
        term = self._plan.terms[index]
        assert isinstance(term.signal, HiddenMatch)
        theirs = _hidden_of(self._teachers[term.teacher], term, hidden.shape[-1])
        factor = self._plan.coefficients[index, rows] * weight
        leaf = hidden[rows].detach().to(self._exact).requires_grad_()
        with torch.enable_grad():
            values = factor * term.signal(leaf, theirs[rows].detach().to(self._exact))
            values = torch.where(factor != 0.0, values, 0.0)
            gradient = torch.autograd.grad(values.sum(), leaf)[0] if carry is not None else None
        self._count(index, rows, values.detach(), weight)
        if carry is not None and carry.hidden is not None and gradient is not None:
            carry.hidden[rows] += gradient.to(hidden.dtype)

    def _add(
        self,
        index: int,
        signal: Signal,
        rows: slice,
        view: Rows,
        weight: Float[Tensor, " row"],
    ) -> tuple[Linearised, Float[Tensor, " row"]]:
        """Book one term's share of a tile; what it found, and the factor of each row."""
        teacher = self._plan.terms[index].teacher
        factor = self._plan.coefficients[index, rows] * weight
        kept = factor != 0.0
        credit = self._plan.credits[index]
        if credit is not None:
            view = replace(view, credit=credit.select(rows))
        found = _linearise(signal, teacher, view, kept)
        self._count(index, rows, factor * torch.where(kept, found.values, 0.0), weight)
        return found, factor

    def _require_finite(self) -> None:
        bad = (~self._values.isfinite()).nonzero().squeeze(-1)
        if len(bad):
            row = int(bad[0])
            rollout, position = int(self._batch.rollout[row]), int(self._batch.position[row])
            raise NumericsError(
                f"The objective is {float(self._values[row])!r} at rollout {rollout} (example "
                f"{self._batch.rollouts[rollout].example.id!r}), position {position}, token {int(self._batch.token[row])}; "
                f"{len(bad)} of {len(self._values)} tokens are not finite. A logit is NaN or infinite, or one side gives no "
                "probability to what the other side may write. Lower the learning rate, or check the models' weights."
            )


def _plus(
    slope: Float[Tensor, "row vocab"] | None,
    found: Linearised,
    factor: Float[Tensor, " row"],
    *,
    like: Float[Tensor, "row vocab"],
) -> Float[Tensor, "row vocab"]:
    """Add a term's slopes to those of the terms before it; takes the memory of the first."""
    scale = factor.to(like.dtype).unsqueeze(-1)
    if found.ids is not None:
        slope = torch.zeros_like(like) if slope is None else slope
        return slope.scatter_add_(-1, found.ids, torch.where(scale != 0.0, found.slope * scale, 0.0))
    return found.slope.mul_(scale) if slope is None else slope.addcmul_(found.slope, scale)


def _needs_no_head(term: Term) -> bool:
    """Whether neither the term's signal nor its weights look at any distribution."""
    return isinstance(term.signal, HiddenMatch) and all(part.scope != "token" for part in term.weights)


def _hidden_of(signal: TeacherSignal, term: Term, width: int) -> Float[Tensor, "row width"]:
    if not isinstance(signal, FullSignal):
        raise ConfigError(f"Term {term.name!r} matches hidden states, and this teacher does not provide them.")
    if signal.hidden.shape[-1] != width:
        raise ConfigError(
            f"Term {term.name!r} matches hidden states, but the student's have {width} numbers and the teacher's "
            f"{signal.hidden.shape[-1]}. Use a teacher of the student's width (itself under a context, say), or a divergence."
        )
    return signal.hidden


def _linearise(signal: Signal, teacher: str, view: Rows, kept: Bool[Tensor, " row"]) -> Linearised:
    """The signal's own way where it has one and its numbers are finite, else differentiation of the rows that count."""
    if isinstance(signal, LinearSignal):
        found = signal.linearise(view, teacher=teacher)
        used = found.values if found.ids is None else found.values[kept]  # a slope of all entries is added on every row
        if bool(used.isfinite().all()):
            return found
    chosen = kept.nonzero().squeeze(-1)
    part = by_differentiation(signal, view.take(chosen), teacher=teacher)
    return Linearised(
        values=part.values.new_zeros(len(kept)).index_copy_(0, chosen, part.values),
        slope=torch.zeros_like(view.student).index_copy_(0, chosen, part.slope),
    )


@final
class _Gradients:
    """Gradients for what asks for one, summed over panels in float32 or better."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: tuple[bool, bool, bool]) -> None:
        exact = torch.promote_types(hidden.dtype, torch.float32)
        self.hidden = torch.zeros_like(hidden) if wanted[0] else None
        self.weight = torch.empty(weight.shape, dtype=exact, device=weight.device) if wanted[1] else None
        self.bias = torch.zeros(weight.shape[0], dtype=exact, device=weight.device) if bias is not None and wanted[2] else None
        if not len(hidden):
            self.nothing_from_the_head()

    def nothing_from_the_head(self) -> None:
        """No panel was walked: what `add` would have written first is zero."""
        if self.weight is not None:
            self.weight.zero_()

    def add(
        self, rows: slice, hidden: Tensor, gradient: Float[Tensor, "row vocab"], weight: Float[Tensor, "vocab width"]
    ) -> None:
        """A panel's gradient with respect to the head's product."""
        if self.bias is not None:
            self.bias.add_(gradient.sum(dim=0))
        gradient = gradient.to(weight.dtype)
        if self.hidden is not None:
            self.hidden[rows] += (gradient @ weight).to(self.hidden.dtype)
        if self.weight is not None:
            inputs, first = hidden.to(weight.dtype), rows.start == 0
            if weight.dtype == self.weight.dtype:
                self.weight.addmm_(gradient.T, inputs, beta=0.0 if first else 1.0)
            else:
                for entries in range(0, gradient.shape[1], _ENTRIES_AT_ONCE):
                    part = slice(entries, entries + _ENTRIES_AT_ONCE)
                    found = gradient[:, part].T @ inputs
                    _ = self.weight[part].copy_(found) if first else self.weight[part].add_(found)


class _FusedHead(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # autograd's signature is *args
        ctx: Any,  # autograd's own, which carries whatever is put on it
        hidden: Float[Tensor, "row width"],
        weight: Float[Tensor, "vocab width"],
        bias: Float[Tensor, " vocab"] | None,
        work: _Work,
    ) -> Float[Tensor, ""]:
        gradients = _Gradients(hidden, weight, bias, ctx.needs_input_grad[:3])
        loss = work.run(hidden.detach(), gradients)
        ctx.save_for_backward(gradients.hidden, gradients.weight, gradients.bias)
        ctx.kinds = (weight.dtype, None if bias is None else bias.dtype)
        ctx.used = False
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, upstream: Float[Tensor, ""]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        if ctx.used:
            raise RuntimeError("The fused head's gradient was taken already; it is stored once. Call evaluate() again.")
        ctx.used = True
        factor = float(upstream)
        scaled = [kept if kept is None or factor == 1.0 else kept.mul_(factor) for kept in ctx.saved_tensors]
        to_hidden, to_weight, to_bias = scaled
        weight_dtype, bias_dtype = ctx.kinds
        return (
            to_hidden,
            None if to_weight is None else to_weight.to(weight_dtype),
            None if to_bias is None else to_bias.to(bias_dtype),
            None,
        )
