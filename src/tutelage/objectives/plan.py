"""From terms to one coefficient per row and term, fixed once per step.

After this every term is linear in its rows, `loss = sum_row coefficient[row] * value[row]`, so micro-batches, accumulation
and processes only add up parts of one sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math import reductions
from tutelage.objectives.terms import Constant, SequenceMean, Term, TokenMean
from tutelage.types import StepBatch
from tutelage.types.schedules import value_at

Measured = Mapping[str, Float[Tensor, " row"]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """Terms with their coefficients for the rows at hand."""

    terms: tuple[Term, ...]
    coefficients: Float[Tensor, "term row"]
    """Scale x step-scope weights / global denominator; zero where a term does not act."""

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "Plan":
        """The same plan for some of the rows."""
        return Plan(terms=self.terms, coefficients=self.coefficients[:, rows])


def statistics_needed(terms: Sequence[Term]) -> frozenset[str]:
    """Per-row statistics that must be measured before coefficients can be computed; empty for most recipes."""
    needed = (weight.statistics for term in terms for weight in term.weights if weight.scope == "step")
    return frozenset[str]().union(*needed)


def plan(
    terms: Sequence[Term],
    batch: StepBatch,
    *,
    step: int = 0,
    measured: Measured | None = None,
    total: reductions.Total = lambda count: count,
) -> Plan:
    """Coefficients of every term for the rows of this process.

    Args:
        terms: The recipe's objective.
        batch: All rows of the step on this process.
        step: Optimiser step, for scales that move.
        measured: Statistics that weights of scope `step` need.
        total: Sums a count over all processes.

    Raises:
        ConfigError: A weight needs a statistic that was not measured.
    """
    return Plan(
        terms=tuple(terms),
        coefficients=torch.stack([_coefficients(term, batch, step, measured or {}, total) for term in terms]),
    )


def _coefficients(
    term: Term, batch: StepBatch, step: int, measured: Measured, total: reductions.Total
) -> Float[Tensor, " row"]:
    mask = batch.rows_by(term.authors)
    match term.reduction:
        case TokenMean():
            coefficients = reductions.token_mean(mask, total=total)
        case SequenceMean():
            coefficients = reductions.sequence_mean(mask, batch.rollout, total=total)
        case Constant(divisor=divisor):
            coefficients = reductions.constant(mask, batch.rollout, divisor=divisor, total=total)
    for weight in term.weights:
        if weight.scope == "step":
            if missing := weight.statistics - measured.keys():
                raise ConfigError(
                    f"Term {term.name!r}: weight {weight.kind!r} needs {sorted(missing)}, which was not measured."
                )
            coefficients = coefficients * weight(batch, measured)
    return (value_at(term.scale, step) * coefficients).float()
