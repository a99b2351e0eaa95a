"""From terms to one coefficient per row and term, fixed once per step.

After this every term is linear in its rows, `loss = sum_row coefficient[row] * value[row]`, so micro-batches, accumulation
and processes only add up parts of one sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math import reductions
from tutelage.objectives.linearise import depends_on_step
from tutelage.objectives.terms import Constant, SequenceMean, Sum, Term, TokenMean
from tutelage.types import Credit, Gather, StepBatch
from tutelage.types.schedules import value_at
from tutelage.weighting.base import Measured, RowStatistic

Mask = Bool[Tensor, " row"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """Terms with their coefficients for the rows at hand."""

    terms: tuple[Term, ...]
    coefficients: Float[Tensor, "term row"]
    """Scale / global denominator, in float64; zero where a term does not act."""
    weights: Float[Tensor, "term row"]
    """Product of the weights of scope `step`; one where a term has none."""
    credits: tuple[Credit | None, ...]
    """What signals of scope `step` found out; None where a term's signal is none."""

    @property
    def acting(self) -> Bool[Tensor, "term row"]:
        """Where a term contributes anything."""
        return (self.coefficients != 0.0) & (self.weights != 0.0)

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "Plan":
        """The same plan for some of the rows."""
        return Plan(
            terms=self.terms,
            coefficients=self.coefficients[:, rows],
            weights=self.weights[:, rows],
            credits=tuple(credit if credit is None else credit.select(rows) for credit in self.credits),
        )


def statistics_needed(terms: Sequence[Term]) -> frozenset[str]:
    """Per-row statistics that must be measured before coefficients can be computed; empty for most recipes."""
    by_weights = (weight.statistics for term in terms for weight in term.weights if weight.scope == "step")
    by_signals = (term.signal.statistics for term in terms if depends_on_step(term.signal))
    by_routes = (route.statistics for term in terms for route in term.routes)
    return frozenset(statistic.name for statistic in measures_needed(terms)).union(*by_weights, *by_signals, *by_routes)


def measures_needed(terms: Sequence[Term]) -> tuple[RowStatistic, ...]:
    """Those that are not among `STATISTICS`, each once."""
    return tuple({statistic.name: statistic for term in terms for statistic in term.measures}.values())


def plan(
    terms: Sequence[Term],
    batch: StepBatch,
    *,
    step: int = 0,
    measured: Measured | None = None,
    gather: Gather = lambda local: local,
) -> Plan:
    """Coefficients of every term for the rows of this process.

    Args:
        terms: The recipe's objective.
        batch: All rows of the step on this process.
        step: Optimiser step, for scales that move.
        measured: Statistics that weights and signals of scope `step` need.
        gather: Puts a vector of every process behind one another; the identity where there is one process.

    Raises:
        ConfigError: A weight or a signal needs a statistic that was not measured.
    """
    measured = measured or {}
    masks = [_acts_on(term, batch, measured, gather) for term in terms]
    parts = list(zip(terms, masks, strict=True))
    weights = [_weigh(term, batch, measured, mask, step, gather) for term, mask in parts]
    shares = [_reduce(term, batch, mask, weight, gather) for (term, mask), weight in zip(parts, weights, strict=True)]
    return Plan(
        terms=tuple(terms),
        coefficients=torch.stack([value_at(term.scale, step) * share for term, share in zip(terms, shares, strict=True)]),
        weights=torch.stack(weights),
        credits=tuple(_credit(term, batch, measured, mask, gather) for term, mask in parts),
    )


def _acts_on(term: Term, batch: StepBatch, measured: Measured, gather: Gather) -> Mask:
    """The rows of the term's authors that its teacher could teach and that every route takes."""
    mask = batch.rows_by(term.authors)
    if term.needs:
        mask = mask & batch.taught_by(term.teacher)
    for route in term.routes:
        _require(route.statistics, measured, f"Term {term.name!r}: route {route.kind!r}")
        mask = mask & route(batch, measured, mask, gather=gather)
    return mask


def _reduce(term: Term, batch: StepBatch, acting: Mask, weight: Float[Tensor, " row"], gather: Gather) -> Float[Tensor, " row"]:
    match term.counts:
        case "acting":
            counted = acting
        case "written":
            counted = batch.rows_by(term.authors)
        case "selected":
            counted = acting & (weight != 0.0)
    return torch.where(acting, _shares(term, batch, counted, gather), 0.0)


def _shares(term: Term, batch: StepBatch, mask: Mask, gather: Gather) -> Float[Tensor, " row"]:
    def total(count: Float[Tensor, "1"]) -> Float[Tensor, "1"]:
        return gather(count).sum(dim=0, keepdim=True)

    match term.reduction:
        case TokenMean():
            return reductions.token_mean(mask, total=total)
        case SequenceMean():
            return reductions.sequence_mean(mask, batch.rollout, total=total)
        case Constant(divisor=divisor):
            return reductions.constant(mask, batch.rollout, divisor=divisor, total=total)
        case Sum():
            return mask.to(torch.float64)


def _weigh(term: Term, batch: StepBatch, measured: Measured, mask: Mask, step: int, gather: Gather) -> Float[Tensor, " row"]:
    product = torch.ones(batch.num_rows, dtype=torch.float64, device=batch.token.device)
    for weight in term.weights:
        if weight.scope == "step":
            needed = weight.statistics.union(statistic.name for statistic in weight.measures)
            _require(needed, measured, f"Term {term.name!r}: weight {weight.kind!r}")
            product = product * torch.where(mask, weight(batch, measured, mask, step=step, gather=gather), 1.0)
    return product


def _credit(term: Term, batch: StepBatch, measured: Measured, mask: Mask, gather: Gather) -> Credit | None:
    signal = term.signal
    if not depends_on_step(signal):
        return None
    _require(signal.statistics, measured, f"Term {term.name!r}: signal {term.signal.kind!r}")
    return signal.credit(batch, measured, mask, gather=gather)


def _require(needed: frozenset[str], measured: Measured, who: str) -> None:
    if missing := needed - measured.keys():
        raise ConfigError(
            f"{who} needs {sorted(missing)}, which was not measured. Measure the step first (`objectives.measure`) and hand "
            "the result over as `measured`."
        )
