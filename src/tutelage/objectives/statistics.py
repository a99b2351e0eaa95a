"""Per-row statistics: what step-scope weights, evaluations and reports are made of."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.math.bounds import forward_kl_bounds
from tutelage.math.divergences import expectation, forward_kl, reverse_kl
from tutelage.math.slopes import both_kls
from tutelage.objectives.panels import Budget, Temperatures, walk
from tutelage.types import Head, StepBatch, TeacherSignal
from tutelage.weighting.base import Rows, RowStatistic

STATISTICS = (
    "student_entropy_nats",
    "student_log_prob",
    "teacher_entropy_nats",
    "teacher_log_prob",
    "forward_kl_nats",
    "reverse_kl_nats",
)
"""Per-row statistics; the teacher's whole distribution is needed for its entropy and the divergences, NaN without it, and
NaN where it could not teach. A teacher that gives its likeliest entries only has `forward_kl_lower_nats`, the smallest forward
KL that it can have, and `forward_kl_error_nats`, by how much it can be larger, beside these."""


def blank(
    batch: StepBatch, *, dtype: torch.dtype = torch.float32, extra: Sequence[RowStatistic] = ()
) -> dict[str, Float[Tensor, " row"]]:
    """Statistics of which nothing is known yet."""
    names = (*STATISTICS, *(statistic.name for statistic in extra))
    return {name: torch.full((batch.num_rows,), torch.nan, dtype=dtype, device=batch.token.device) for name in names}


def fill(
    found: dict[str, Float[Tensor, " row"]],
    name: str,
    rows: slice | Int[Tensor, " _"],
    values: Float[Tensor, " _"],
    *,
    total: int,
) -> None:
    """Write a statistic of some of `total` rows; one that nobody gave before is NaN at the others."""
    if name not in found:
        found[name] = values.new_full((total,), torch.nan)
    found[name][rows] = values.to(found[name])


@torch.no_grad()
def describe(found: dict[str, Float[Tensor, " row"]], rows: slice, view: Rows, teacher: str) -> None:
    """Fill in the statistics of some rows."""
    found["student_entropy_nats"][rows] = -expectation(view.probabilities, view.student)
    found["student_log_prob"][rows] = view.sampled
    if (theirs := view.teachers.get(teacher)) is None:
        return
    taught = view.batch.taught_by(teacher)

    def note(name: str, values: Float[Tensor, " row"]) -> None:
        fill(found, name, rows, torch.where(taught, values, torch.nan), total=len(found["student_log_prob"]))

    note("teacher_log_prob", theirs.sampled)
    if theirs.top_ids is not None and theirs.top_log_probs is not None:
        lower, upper = forward_kl_bounds(view.student.detach(), theirs.top_ids, theirs.top_log_probs.to(view.student))
        note("forward_kl_lower_nats", lower)
        note("forward_kl_error_nats", upper - lower)
    if theirs.log_probs is None:
        return
    note("teacher_entropy_nats", -expectation(theirs.probabilities, theirs.log_probs))
    reverse, forward = both_kls(view.probabilities, theirs.probabilities, view.log_ratios(teacher))
    if not bool((reverse + forward).isfinite().all()):
        reverse, forward = reverse_kl(view.student, theirs.log_probs), forward_kl(view.student, theirs.log_probs)
    note("forward_kl_nats", forward)
    note("reverse_kl_nats", reverse)


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
    extra: Sequence[RowStatistic] = (),
) -> dict[str, Float[Tensor, " row"]]:
    """Per-row statistics in nats, without a gradient.

    Args:
        batch: The rows.
        hidden: The student's last hidden state that predicts each row's token.
        head: The student's output layer.
        teachers: What each teacher said about these rows.
        teacher: Name of the one that is compared with.
        temperatures: Of the two softmaxes.
        budget: Memory and type of the products.
        extra: Further statistics, which step weights ask for.

    Returns:
        One vector for each of `STATISTICS` and of the further ones, by name.
    """
    found = blank(batch, dtype=torch.promote_types(hidden.dtype, torch.float32), extra=extra)
    compared = {name: signal for name, signal in teachers.items() if name == teacher}
    with torch.autocast(hidden.device.type, enabled=False):
        for panel in walk(batch, hidden=hidden, head=head, teachers=compared, temperatures=temperatures, budget=budget):
            for rows, _, view in panel.tiles():
                describe(found, rows, view, teacher)
                for statistic in extra:
                    found[statistic.name][rows] = statistic(view, teacher=teacher).to(found[statistic.name])
    return found
