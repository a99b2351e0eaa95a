"""Per-row statistics of a step, micro-batch by micro-batch, without a gradient."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.models import LanguageModel
from tutelage.models.row_states import microbatches, row_states
from tutelage.objectives import Temperatures, measure
from tutelage.objectives.fused import Budget
from tutelage.objectives.statistics import blank, fill
from tutelage.types import StepBatch, TeacherSignal
from tutelage.weighting import RowStatistic

Signals = Mapping[str, TeacherSignal]
"""What each teacher said, by name, aligned with a step's rows."""


def groups(batch: StepBatch, *, budget_tokens: int) -> list[list[int]]:
    """The rollouts that have rows, in micro-batches of similar length within a budget of padded tokens."""
    present = sorted(set(batch.rollout.tolist()))
    lengths = [len(batch.rollouts[i].prompt_ids) + len(batch.rollouts[i].response_ids) for i in present]
    return [[present[place] for place in places] for places in microbatches(lengths, budget_tokens=budget_tokens)]


def padded_tokens(batch: StepBatch, parts: Sequence[Sequence[int]]) -> int:
    """Tokens of all micro-batches, padding included."""
    lengths = [len(rollout.prompt_ids) + len(rollout.response_ids) for rollout in batch.rollouts]
    return sum(len(group) * max(lengths[index] for index in group) for group in parts)


def select(signals: Signals, rows: Int[Tensor, " chosen"]) -> dict[str, TeacherSignal]:
    """Every teacher's signal on some of the rows."""
    return {name: signal.select(rows) for name, signal in signals.items()}


def autocast(student: LanguageModel, precision: torch.dtype | None) -> AbstractContextManager[object]:
    """Reduced precision for the student's forward, or nothing."""
    return nullcontext() if precision is None else torch.autocast(student.device.type, dtype=precision)


def student_states(
    student: LanguageModel, batch: StepBatch, group: list[int], *, precision: torch.dtype | None = None
) -> Float[Tensor, "row width"]:
    """The student's hidden states for the rows of some rollouts, under the prompts that it saw."""
    with autocast(student, precision):
        return row_states(student, batch, group, prompts=[batch.rollouts[i].prompt_ids for i in group])


@torch.no_grad()
def measure_step(
    student: LanguageModel,
    batch: StepBatch,
    signals: Signals,
    *,
    vocab: int,
    budget_tokens: int,
    budget: Budget,
    temperatures: Temperatures = Temperatures(),
    precision: torch.dtype | None = None,
    states: Sequence[Float[Tensor, "_ width"]] | None = None,
    extra: Sequence[RowStatistic] = (),
) -> dict[str, Float[Tensor, " row"]]:
    """Statistics of every row, in nats; the student is in evaluation mode meanwhile.

    Args:
        student: Its weights as they are now.
        batch: The rows.
        signals: What each teacher said; without any, only the student's own statistics are known, the rest is NaN.
        vocab: Number of ids that student and teacher share.
        budget_tokens: Bound on padded tokens in one forward.
        budget: Memory of the head.
        temperatures: Of the two softmaxes.
        precision: Reduced precision of the student's forward.
        states: The student's hidden states of each micro-batch where they are known already; then nothing is run forward.
        extra: Further statistics, which step weights ask for.
    """
    found, training = blank(batch, extra=extra), student.model.training
    student.model.eval()
    for place, group in enumerate(groups(batch, budget_tokens=budget_tokens)):
        rows = batch.rows_of(group)
        part = measure(
            batch.select(rows),
            hidden=states[place] if states is not None else student_states(student, batch, group, precision=precision),
            head=student.head(vocab),
            teachers=select(signals, rows),
            temperatures=temperatures,
            budget=budget,
            extra=extra,
        )
        for name, values in part.items():
            fill(found, name, rows, values, total=batch.num_rows)
    student.model.train(training)
    return found
