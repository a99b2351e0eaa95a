"""Mean and variance of a recipe's gradient, by taking every step that it may take: the code is that of training.

For each outcome the objective is planned and evaluated as for a step of a run. Hidden states are the logits of the prefixes and
the head is the identity, so the gradient that arrives at a row is that of the row's entry in the student's table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, nan
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.lab.exact.outcomes import beyond_tables, outcomes
from tutelage.lab.exact.world import MOST_OUTCOMES, World
from tutelage.objectives import Budget, evaluate, measure, plan
from tutelage.objectives.panels import walk
from tutelage.objectives.plan import Plan, measures_needed, statistics_needed
from tutelage.recipes import Recipe
from tutelage.types import FullSignal, Head, StepBatch, TeacherSignal
from tutelage.weighting import DrawingWeight, RandomWeight

PROVIDED = FullSignal.provides - {"hidden"}
"""What a tabular teacher can give: probabilities, and no states that would mean anything."""

ROUNDING = 1e-13
"""A gradient of a smaller norm is what rounding leaves of zero."""


def obstacle(recipe: Recipe) -> str | None:
    """What keeps the oracle from a recipe and what to do about it, to be read after the recipe's name; none if nothing does."""
    if missing := recipe.needs - PROVIDED:
        return (
            f"needs {sorted(missing)} of its teacher, and the exact oracle's tables have probabilities only. Give its terms "
            "other signals, or compare it in training."
        )
    if drawing := [weight.kind for term in recipe.terms for weight in term.weights if isinstance(weight, DrawingWeight)]:
        return (
            f"draws a share of all tokens of a step ({', '.join(drawing)}), and the exact oracle takes means over noise token "
            "by token. Leave the weight out, or compare it in training."
        )
    return beyond_tables(recipe.rollouts)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moments:
    """What one step's gradient is on average, and how far single steps lie around it."""

    value: float
    """Mean of the loss. For score functions it estimates nothing."""
    gradient: Float[Tensor, "prefix vocab"]
    """Mean gradient with respect to the student's table."""
    variance: float
    """Trace of the gradient's covariance."""
    num_outcomes: int
    """Outcomes that were enumerated."""

    @property
    def signal_to_noise(self) -> float:
        """Squared norm of the mean over the trace of the covariance.

        Infinite where every step gives the same gradient; not a number where that is zero.
        """
        signal = float(self.gradient.square().sum())
        if self.variance > ROUNDING**2:
            return signal / self.variance
        return inf if signal > ROUNDING**2 else nan


def moments(world: World, recipe: Recipe, *, step: int = 0, most: int = MOST_OUTCOMES) -> Moments:
    """Exact moments of a recipe's gradient estimator.

    Token weights that draw (`weighting.RandomWeight`) are integrated over their noise. Given what was written the loss is a sum
    over rows with independent noise, so both sides of every row are weighed row by row and no combination has to be listed.

    Args:
        world: Tables.
        recipe: Any.
        step: Optimiser step, for what moves.
        most: Bound on the number of outcomes.

    Raises:
        ConfigError: There are too many outcomes, or there is an `obstacle`.
    """
    if reason := obstacle(recipe):
        raise ConfigError(f"Recipe {recipe.name!r} {reason}")
    value, count, second = 0.0, 0, 0.0
    mean = torch.zeros_like(world.student)
    for outcome in outcomes(world, recipe.rollouts, step=step, most=most):
        found = _Step(world, recipe, outcome.batch(), outcome.rows(), step=step).integrate()
        value += outcome.probability * found.value
        mean += outcome.probability * found.gradient
        second += outcome.probability * (float(found.gradient.square().sum()) + found.variance)
        count += 1
    return Moments(value=value, gradient=mean, variance=max(second - float(mean.square().sum()), 0.0), num_outcomes=count)


@final
class _Step:
    """One outcome: its rows with the tables' entries."""

    def __init__(self, world: World, recipe: Recipe, batch: StepBatch, rows: Int[Tensor, " row"], *, step: int) -> None:
        self._recipe, self._batch, self._rows, self._shape = recipe, batch, rows, world.student.shape
        self._head = Head(weight=torch.eye(world.size.vocab, dtype=torch.float64))
        self._hidden = world.student[rows]
        self._teachers: Mapping[str, TeacherSignal] = {
            name: FullSignal(hidden=table[rows], head=self._head) for name, table in world.teachers.items()
        }
        self._plan = plan(recipe.terms, batch, step=step, measured=self._measure() if statistics_needed(recipe.terms) else None)

    def _measure(self) -> dict[str, Float[Tensor, " row"]]:
        return measure(
            self._batch,
            hidden=self._hidden,
            head=self._head,
            teachers=self._teachers,
            temperatures=self._recipe.temperatures,
            extra=measures_needed(self._recipe.terms),
        )

    def integrate(self) -> Moments:
        """Moments over the noise alone."""
        noise, share = intervals(self._thresholds())
        value, mean, second = 0.0, torch.zeros_like(self._hidden), torch.zeros(len(self._rows), dtype=torch.float64)
        for column in range(noise.shape[1]):
            weight = share[:, column]
            weighed = replace(self._plan, coefficients=self._plan.coefficients * weight)  # every term is linear in its rows
            loss, gradient = self._evaluate(weighed, replace(self._batch, noise=noise[:, column]))
            value, mean = value + loss, mean + gradient
            second += torch.where(weight > 0.0, gradient.square().sum(-1) / weight, 0.0)
        return Moments(
            value=value,
            gradient=torch.zeros(self._shape, dtype=torch.float64).index_add_(0, self._rows, mean),
            variance=float((second - mean.square().sum(-1)).sum()),
            num_outcomes=1,
        )

    def _evaluate(self, planned: Plan, batch: StepBatch) -> tuple[float, Float[Tensor, "row vocab"]]:
        hidden = self._hidden.clone().requires_grad_()
        found = evaluate(
            planned,
            batch,
            hidden=hidden,
            head=self._head,
            teachers=self._teachers,
            temperatures=self._recipe.temperatures,
        )
        return float(found.loss.detach()), torch.autograd.grad(found.loss, hidden)[0]

    def _thresholds(self) -> Float[Tensor, "row threshold"]:
        """Where the noise of a row matters."""
        drawing = [(term, weight) for term in self._recipe.terms for weight in term.weights if isinstance(weight, RandomWeight)]
        found = torch.zeros(len(self._rows), len(drawing), dtype=torch.float64)
        if not drawing:
            return found
        panels = walk(
            self._batch,
            hidden=self._hidden,
            head=self._head,
            teachers=self._teachers,
            temperatures=self._recipe.temperatures,
            budget=Budget(),
        )
        for rows, _, view in (tile for panel in panels for tile in panel.tiles()):
            for column, (term, weight) in enumerate(drawing):
                found[rows, column] = weight.threshold(view, teacher=term.teacher)
        return found


def intervals(
    thresholds: Float[Tensor, "row threshold"],
) -> tuple[Float[Tensor, "row interval"], Float[Tensor, "row interval"]]:
    """The intervals into which thresholds cut [0, 1): a noise in the middle of each, and how long it is."""
    ends = thresholds.new_tensor([0.0, 1.0]).expand(len(thresholds), 2)
    edges = torch.cat([ends, thresholds.clamp(0.0, 1.0)], dim=-1).sort(dim=-1).values
    return 0.5 * (edges[:, 1:] + edges[:, :-1]), edges.diff(dim=-1)
