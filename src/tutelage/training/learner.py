"""One optimiser step from a scored batch: micro-batches through the fused head, one clipped AdamW update.

Several processes may hold a part of the batch each: the update is that of the whole on all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.errors import NumericsError
from tutelage.models import LanguageModel
from tutelage.objectives import Evaluation, Temperatures, Term, evaluate, plan
from tutelage.objectives.fused import Budget
from tutelage.objectives.plan import Plan, measures_needed, statistics_needed
from tutelage.objectives.statistics import fill
from tutelage.training.measuring import Signals, groups, measure_step, padded_tokens, select, student_states
from tutelage.training.processes import add_up_gradients, gather
from tutelage.training.schedule import learning_rate
from tutelage.training.settings import OptimiserSettings, TrainingSettings
from tutelage.types import StepBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Update:
    """What one optimiser step did."""

    loss: float
    terms: Mapping[str, float]
    """Each term's share of the loss, in nats."""
    weights: Mapping[str, float]
    """Mean token weight of each term over the tokens it acts on."""
    gradient_norm: float
    """Before clipping."""
    learning_rate: float
    statistics: Mapping[str, Float[Tensor, " row"]]
    """Per-row statistics under the student before the step; empty where none were asked for."""


@final
class Learner:
    """The student, its optimiser, and the objective."""

    def __init__(
        self,
        student: LanguageModel,
        *,
        terms: Sequence[Term],
        temperatures: Temperatures,
        vocab: int,
        optimiser: OptimiserSettings,
        training: TrainingSettings,
    ) -> None:
        """Build the optimiser over the student's trainable parameters.

        Args:
            student: The model that is trained.
            terms: The objective.
            temperatures: Of the loss.
            vocab: Number of ids that student and teacher share; both heads are cut to it.
            optimiser: AdamW and its schedule.
            training: Budgets and precision.
        """
        self.student = student
        self.optimiser = torch.optim.AdamW(
            student.trainable_parameters(),
            lr=optimiser.learning_rate,
            betas=(optimiser.beta1, optimiser.beta2),
            eps=optimiser.epsilon,
            weight_decay=optimiser.weight_decay,
            foreach=True,
        )
        self._terms, self.temperatures, self._vocab = tuple(terms), temperatures, vocab
        self._settings, self._training = optimiser, training
        reduced = training.precision == "bfloat16" or (training.precision == "auto" and student.device.type == "cuda")
        self.precision = torch.bfloat16 if reduced else None
        self._budget = Budget(
            chunk_mib=training.head_chunk_mib,
            head_dtype=torch.bfloat16 if training.head_precision == "bfloat16" else self.precision,
            compile=training.head_compile,
            rounded=training.head_precision == "bfloat16" and student.device.type == "cpu",
        )

    def update(self, batch: StepBatch, signals: Signals, *, step: int, statistics: bool = False) -> Update:
        """Take one optimiser step.

        Args:
            batch: All rows of the step, on the student's device.
            signals: What each teacher said, aligned with the rows.
            step: Optimiser steps taken before this one.
            statistics: Also return per-row statistics.

        Raises:
            NumericsError: The loss or the gradient is not finite. The weights are those from before the step.
        """
        rate = learning_rate(self._settings, step=step, num_steps=self._training.num_steps)
        parts = self._backward(batch, signals, step=step, statistics=statistics)
        try:
            norm = self._clip()
        except NumericsError:
            self.optimiser.zero_grad(set_to_none=True)
            raise
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return _combine(parts, batch, terms=self._terms, norm=norm, rate=rate)

    def gradient(self, batch: StepBatch, signals: Signals, *, step: int) -> list[Tensor]:
        """The gradient of a step that is not taken: neither weights nor the optimiser change.

        Args:
            batch: Rows, on the student's device.
            signals: What each teacher said, aligned with the rows.
            step: At which schedules are read.

        Returns:
            One tensor for each trainable parameter, shaped like it.

        Raises:
            NumericsError: The loss is not finite.
        """
        self._backward(batch, signals, step=step, statistics=False)
        found = [torch.zeros_like(each) if each.grad is None else each.grad for each in self.student.trainable_parameters()]
        self.optimiser.zero_grad(set_to_none=True)
        return found

    def _backward(self, batch: StepBatch, signals: Signals, *, step: int, statistics: bool) -> list[tuple[Tensor, Evaluation]]:
        """Leave the whole batch's gradient at the parameters; none at all where the loss is not finite."""
        found = groups(batch, budget_tokens=self._training.microbatch_tokens)
        needed = bool(statistics_needed(self._terms))
        kept: list[Tensor] | None = None
        self.student.model.train()
        if needed and padded_tokens(batch, found) <= self._training.microbatch_tokens:
            kept = [self._states(batch, group) for group in found]  # the step fits: one forward serves both phases
        measured = self._measure(batch, signals, kept) if needed else None
        whole = plan(self._terms, batch, step=step, measured=measured, gather=gather)
        try:
            parts = [
                self._accumulate(group, whole, batch, signals, hidden=kept[place] if kept else None, statistics=statistics)
                for place, group in enumerate(found)
            ]
            add_up_gradients(self.student.trainable_parameters())
        except NumericsError:
            self.optimiser.zero_grad(set_to_none=True)
            raise
        return parts

    def _states(self, batch: StepBatch, group: list[int]) -> Float[Tensor, "row width"]:
        return student_states(self.student, batch, group, precision=self.precision)

    def _measure(self, batch: StepBatch, signals: Signals, states: Sequence[Tensor] | None) -> dict[str, Float[Tensor, " row"]]:
        return measure_step(
            self.student,
            batch,
            signals,
            vocab=self._vocab,
            budget_tokens=self._training.microbatch_tokens,
            budget=self._budget,
            temperatures=self.temperatures,
            precision=self.precision,
            states=states,
            extra=measures_needed(self._terms),
        )

    def _accumulate(
        self, group: list[int], whole: Plan, batch: StepBatch, signals: Signals, *, hidden: Tensor | None, statistics: bool
    ) -> tuple[Tensor, Evaluation]:
        rows = batch.rows_of(group)
        evaluation = evaluate(
            whole.select(rows),
            batch.select(rows),
            hidden=self._states(batch, group) if hidden is None else hidden,
            head=self.student.head(self._vocab),
            teachers=select(signals, rows),
            temperatures=self.temperatures,
            budget=self._budget,
            statistics=statistics,
        )
        evaluation.loss.backward()
        return rows, evaluation

    def _clip(self) -> float:
        bound = self._settings.gradient_clip or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.student.trainable_parameters(), bound))
        if norm != norm or norm == float("inf"):
            raise NumericsError(
                f"The gradient's norm is {norm!r} although every token's loss is finite. The weights were left as they were. "
                "Lower the learning rate, or train in float32 (--training.precision float32)."
            )
        return norm


def _combine(
    parts: Sequence[tuple[Tensor, Evaluation]],
    batch: StepBatch,
    *,
    terms: Sequence[Term],
    norm: float,
    rate: float,
) -> Update:
    """Add up the micro-batches: losses are parts of one sum already, mean weights are averaged over counted tokens."""
    losses = {term.name: sum(part.terms[term.name] for _, part in parts) for term in terms}
    weights: dict[str, float] = {}
    for term in terms:
        total = sum(part.counted[term.name] * part.weights[term.name] for _, part in parts)
        weights[term.name] = total / max(sum(part.counted[term.name] for _, part in parts), 1)
    statistics: dict[str, Tensor] = {}
    for rows, part in parts:
        for name, values in part.statistics.items():
            fill(statistics, name, rows, values, total=batch.num_rows)
    return Update(
        loss=sum(losses.values()), terms=losses, weights=weights, gradient_norm=norm, learning_rate=rate, statistics=statistics
    )
