"""The fused head: any sum of terms from hidden states and heads, chunk by chunk, with the gradient taken in the forward.

For a chunk of rows: two products give both sides' logits, the terms give the gradient with respect to the student's logits,
and two more products carry it to the hidden states and the head. Four `vocab x width` products per row in all, and no
[row, vocab] tensor outlives its chunk.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.errors import ConfigError, NumericsError
from tutelage.math.divergences import entropy, forward_kl, reverse_kl
from tutelage.objectives.plan import Plan
from tutelage.types import FullSignal, Head, SampledSignal, StepBatch, TeacherSignal, TopKSignal
from tutelage.weighting.base import Rows, TeacherRows

STATISTICS = (
    "student_entropy_nats",
    "student_log_prob",
    "teacher_entropy_nats",
    "teacher_log_prob",
    "forward_kl_nats",
    "reverse_kl_nats",
)
"""Per-row statistics; the teacher's whole distribution is needed for its entropy and the divergences, NaN without it."""

_LIVE_COPIES = 8
"""[row, vocab] tensors in float32 that are alive at once while a chunk is worked on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Temperatures:
    """What logits are divided by before the softmax of the loss. The sampler's temperature is a third, separate setting."""

    student: float = 1.0
    """Of the student's softmax."""
    teacher: float = 1.0
    """Of the teacher's softmax."""

    def __post_init__(self) -> None:
        if self.student <= 0.0 or self.teacher <= 0.0:
            raise ConfigError(f"Temperatures must be > 0, got student {self.student!r}, teacher {self.teacher!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How much the head may hold at once."""

    chunk_mib: int = 256
    """Memory for one chunk's logits and what is derived from them, in MiB."""
    head_dtype: torch.dtype | None = None
    """Type of the head's products; none keeps that of the weights. The softmax is in float32 (or float64) always."""

    def rows(self, vocab: int) -> int:
        """Rows per chunk."""
        return max(1, (self.chunk_mib << 20) // (4 * vocab * _LIVE_COPIES))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """What an objective gave."""

    loss: Float[Tensor, ""]
    """The sum of all terms over the rows at hand; may be differentiated once."""
    terms: Mapping[str, float]
    """Each term's share of the loss."""
    weights: Mapping[str, float]
    """Mean token weight of each term over the tokens it acts on: the share that a mask keeps."""
    statistics: Mapping[str, Float[Tensor, " row"]]
    """Per-row statistics, detached; empty unless asked for."""


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
    """
    work = _Work(plan=plan, batch=batch, head=head, teachers=teachers, temperatures=temperatures, budget=budget)
    work.keep_statistics = statistics
    loss = cast(Tensor, _FusedHead.apply(hidden, head.weight, head.bias, work))  # pyright: ignore  # torch leaves it untyped
    return Evaluation(
        loss=loss,
        terms={term.name: float(value) for term, value in zip(plan.terms, work.term_losses, strict=True)},
        weights={term.name: float(value) for term, value in zip(plan.terms, work.mean_weights(), strict=True)},
        statistics=work.statistics,
    )


@torch.no_grad()
def measure(
    batch: StepBatch,
    *,
    hidden: Float[Tensor, "row width"],
    head: Head,
    teachers: Mapping[str, TeacherSignal],
    teacher: str = "teacher",
    temperatures: Temperatures = Temperatures(),
    budget: Budget = Budget(),
) -> dict[str, Float[Tensor, " row"]]:
    """Per-row statistics in nats, without a gradient: what step-scope weights and evaluations are made of."""
    found = _blank(batch, hidden)
    for rows in _chunks(batch.num_rows, budget.rows(head.vocab_size)):
        logits = _logits(hidden[rows], head, budget).div_(temperatures.student)
        views = {
            name: _view(signal.select(rows), batch.select(rows), temperatures, budget) for name, signal in teachers.items()
        }
        _describe(found, rows, Rows(student=logits.log_softmax(-1), teachers=views, batch=batch.select(rows)), teacher)
    return found


class _Work:
    """One evaluation: its inputs, and what the pass over the chunks leaves behind."""

    def __init__(
        self,
        *,
        plan: Plan,
        batch: StepBatch,
        head: Head,
        teachers: Mapping[str, TeacherSignal],
        temperatures: Temperatures,
        budget: Budget,
    ) -> None:
        self.plan, self.batch, self.head, self.teachers = plan, batch, head, teachers
        self.temperatures, self.budget = temperatures, budget
        self.keep_statistics = False
        self.statistics: dict[str, Float[Tensor, " row"]] = {}
        self.term_losses = torch.zeros(len(plan.terms), dtype=torch.float64)
        self._weight_sums = torch.zeros(len(plan.terms), dtype=torch.float64)
        self._acting = torch.zeros(len(plan.terms), dtype=torch.float64)

    def mean_weights(self) -> Float[Tensor, " term"]:
        return self._weight_sums / self._acting.clamp(min=1.0)

    def run(
        self,
        hidden: Float[Tensor, "row width"],
        on_gradient: Callable[[slice, Float[Tensor, "row vocab"]], None],
    ) -> Float[Tensor, ""]:
        """Sum over all chunks; hands each chunk's gradient with respect to the raw head product to `on_gradient`."""
        self.statistics = _blank(self.batch, hidden) if self.keep_statistics else {}
        losses = torch.zeros(len(self.plan.terms), dtype=torch.float64, device=hidden.device)
        values = torch.zeros(self.batch.num_rows, dtype=torch.float32, device=hidden.device)
        for rows in _chunks(self.batch.num_rows, self.budget.rows(self.head.vocab_size)):
            self._chunk(rows, hidden, losses, values, on_gradient)
        self._require_finite(values)
        self.term_losses = losses.cpu()
        return losses.sum().to(torch.promote_types(hidden.dtype, torch.float32))

    def _chunk(
        self,
        rows: slice,
        hidden: Float[Tensor, "row width"],
        losses: Float[Tensor, " term"],
        values: Float[Tensor, " row"],
        on_gradient: Callable[[slice, Float[Tensor, "row vocab"]], None],
    ) -> None:
        batch, plan = self.batch.select(rows), self.plan.select(rows)
        product = _product(hidden[rows], self.head, self.budget)
        views = {
            name: _view(signal.select(rows), batch, self.temperatures, self.budget) for name, signal in self.teachers.items()
        }
        with torch.enable_grad():
            product.requires_grad_()
            logits = _finish(product, self.head) / self.temperatures.student
            view = Rows(student=logits.log_softmax(-1), teachers=views, batch=batch)
            parts = [self._term(index, plan, view, values[rows]) for index in range(len(plan.terms))]
            present = [part for part in parts if part.requires_grad]
            gradient = torch.autograd.grad(torch.stack(present).sum(), product)[0] if present else torch.zeros_like(product)
        losses += torch.stack([part.detach().double() for part in parts])
        if self.keep_statistics:
            _describe(self.statistics, rows, view, plan.terms[0].teacher)
        on_gradient(rows, gradient)

    def _term(self, index: int, plan: Plan, view: Rows, values: Float[Tensor, " row"]) -> Float[Tensor, ""]:
        """One term's share of the loss in this chunk; only rows that the term acts on are ever computed."""
        term, coefficients = plan.terms[index], plan.coefficients[index]
        acting = coefficients.nonzero().squeeze(-1)
        if not len(acting):
            return torch.zeros((), dtype=view.student.dtype, device=view.student.device)
        if len(acting) < len(coefficients):
            view, coefficients = view.take(acting), coefficients[acting]
        value = term.signal(view, teacher=term.teacher)
        weight = torch.ones_like(value, requires_grad=False)
        for part in term.weights:
            if part.scope == "token":
                weight = weight * part(view, teacher=term.teacher).to(value.dtype)
        kept = weight > 0.0
        weighted = torch.where(kept, value, 0.0) * weight
        values[acting] += weighted.detach().float()
        self._weight_sums[index] += float(weight.sum())
        self._acting[index] += len(acting)
        return (coefficients.to(value.dtype) * weighted).sum()

    def _require_finite(self, values: Float[Tensor, " row"]) -> None:
        bad = (~values.isfinite()).nonzero().squeeze(-1)
        if len(bad):
            row = int(bad[0])
            rollout, position = int(self.batch.rollout[row]), int(self.batch.position[row])
            raise NumericsError(
                f"The objective is {float(values[row])!r} at rollout {rollout} (example "
                f"{self.batch.rollouts[rollout].example.id!r}), position {position}, token {int(self.batch.token[row])}; "
                f"{len(bad)} of {len(values)} tokens are not finite. A logit is NaN or infinite, or one side gives no "
                "probability to what the other side may write. Lower the learning rate, or check the models' weights."
            )


class _FusedHead(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # autograd's signature is *args
        ctx: Any,  # autograd's own, which carries whatever is put on it
        hidden: Float[Tensor, "row width"],
        weight: Float[Tensor, "vocab width"],
        bias: Float[Tensor, " vocab"] | None,
        work: _Work,
    ) -> Float[Tensor, ""]:
        detached, plain = hidden.detach(), weight.detach()
        wants_hidden, wants_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        wants_bias = bias is not None and ctx.needs_input_grad[2]
        exact = torch.promote_types(hidden.dtype, torch.float32)
        to_hidden = torch.empty_like(detached) if wants_hidden else None
        to_weight = torch.zeros(weight.shape, dtype=exact, device=weight.device) if wants_weight else None
        to_bias = torch.zeros(weight.shape[0], dtype=exact, device=weight.device) if wants_bias else None

        def carry(rows: slice, gradient: Float[Tensor, "row vocab"]) -> None:
            if to_bias is not None:
                to_bias.add_(gradient.sum(0))
            dtype = work.budget.head_dtype or plain.dtype
            gradient = gradient.to(dtype)
            if to_hidden is not None:
                to_hidden[rows] = (gradient @ plain.to(dtype)).to(to_hidden.dtype)
            if to_weight is not None:
                inputs = detached[rows].to(dtype)
                if dtype == exact:
                    to_weight.addmm_(gradient.T, inputs)
                else:
                    to_weight.add_(gradient.T @ inputs)

        loss = work.run(detached, carry)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
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
        to_hidden, to_weight, to_bias = ctx.saved_tensors
        weight_dtype, bias_dtype = ctx.kinds
        return (
            None if to_hidden is None else to_hidden * upstream.to(to_hidden.dtype),
            None if to_weight is None else to_weight.mul_(upstream).to(weight_dtype),
            None if to_bias is None else to_bias.mul_(upstream).to(bias_dtype),
            None,
        )


def _chunks(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _product(hidden: Float[Tensor, "row width"], head: Head, budget: Budget) -> Float[Tensor, "row vocab"]:
    """`hidden @ weight.T + bias` in at least float32, detached."""
    dtype = budget.head_dtype or head.weight.dtype
    product = hidden.detach().to(dtype) @ head.weight.detach().to(dtype).T
    product = product.to(torch.promote_types(hidden.dtype, torch.float32))
    return product if head.bias is None else product.add_(head.bias.detach())


def _finish(product: Float[Tensor, "row vocab"], head: Head) -> Float[Tensor, "row vocab"]:
    logits = product if head.scale == 1.0 else product * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def _logits(hidden: Float[Tensor, "row width"], head: Head, budget: Budget) -> Float[Tensor, "row vocab"]:
    return _finish(_product(hidden, head, budget), head)


def _view(signal: TeacherSignal, batch: StepBatch, temperatures: Temperatures, budget: Budget) -> TeacherRows:
    if isinstance(signal, FullSignal):
        with torch.no_grad():
            log_probs = _logits(signal.hidden, signal.head, budget).div_(temperatures.teacher).log_softmax(-1)
        return TeacherRows(log_probs=log_probs, sampled=log_probs.gather(-1, batch.token.unsqueeze(-1)).squeeze(-1))
    if temperatures.teacher != 1.0:
        raise ConfigError(
            f"The teacher's temperature is {temperatures.teacher!r}, but this teacher gives only some log-probabilities at "
            "temperature 1, which cannot be rescaled. Set it to 1, or load the teacher in process."
        )
    match signal:
        case TopKSignal():
            return TeacherRows(top_ids=signal.ids, top_log_probs=signal.log_probs, sampled=signal.sampled)
        case SampledSignal():
            return TeacherRows(sampled=signal.sampled)


def _blank(batch: StepBatch, hidden: Tensor) -> dict[str, Float[Tensor, " row"]]:
    return {name: torch.full((batch.num_rows,), torch.nan, device=hidden.device) for name in STATISTICS}


@torch.no_grad()
def _describe(found: dict[str, Float[Tensor, " row"]], rows: slice, view: Rows, teacher: str) -> None:
    student = view.student.detach()
    found["student_entropy_nats"][rows] = entropy(student).float()
    found["student_log_prob"][rows] = view.sampled.detach().float()
    if (theirs := view.teachers.get(teacher)) is None:
        return
    found["teacher_log_prob"][rows] = theirs.sampled.float()
    if theirs.log_probs is not None:
        found["teacher_entropy_nats"][rows] = entropy(theirs.log_probs).float()
        found["forward_kl_nats"][rows] = forward_kl(student, theirs.log_probs).float()
        found["reverse_kl_nats"][rows] = reverse_kl(student, theirs.log_probs).float()
