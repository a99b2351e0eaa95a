"""From claims and results to the rows of the table, and to the jobs that are still missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

from tutelage.errors import ConfigError
from tutelage.lab import tasks
from tutelage.lab.reproduction.claim import Claim
from tutelage.lab.reproduction.claims import BASELINES
from tutelage.lab.reproduction.jobs import VALIDATION_SEED, Job, job_of
from tutelage.lab.reproduction.metrics import Metric, metric_of
from tutelage.lab.reproduction.recipes import Kind, kind_of, recipe_of
from tutelage.lab.reproduction.results import Result, Results
from tutelage.lab.reproduction.verdict import Verdict, judge
from tutelage.lab.tasks import Budget, Task
from tutelage.recipes import REGISTRY

State = Literal["measured", "failed", "missing", "waiting"]

SPOKESMEN: Mapping[Kind, str] = {"exact": "gkd", "score function": "opd", "supervised": "seq_kd"}
"""The method that chooses the learning rate of its kind of estimator, for all methods of that kind."""
GRIDS: Mapping[Kind, tuple[float, float]] = {
    "exact": (1e-3, 3e-3),
    "score function": (3e-4, 1e-3),
    "supervised": (1e-3, 3e-3),
}
"""Learning rates that are tried, times the task's own scale; the first is taken where none are. A gradient of one sampled token
per prefix is noisier, and falls apart at lower rates."""
MOST_SEEDS = 5


def rates_tried(task: Task, kind: Kind) -> tuple[float, ...]:
    """The learning rates among which the one of a kind of estimator is chosen on a task."""
    return tuple(float(f"{task.learning_rate_scale * rate:.3g}") for rate in GRIDS[kind])  # a result's name holds these digits


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How large the table's runs are."""

    num_steps: int | None = None
    """Optimiser steps; None takes each task's own."""
    num_held_out: int = 128
    """Problems of each evaluation; a task with fewer keeps its own number."""
    choose_rates: bool = True
    """Whether learning rates are chosen from the grid; else its first is taken."""
    all_baselines: bool = True
    """Whether every baseline runs on every task that has a row, or only those that rows compare with."""

    def budget(self, task: Task) -> Budget:
        """Of a run on a task."""
        own = task.budget
        steps = min(self.num_steps or own.num_steps, own.num_steps)
        return replace(own, num_held_out=min(self.num_held_out, own.num_held_out), num_steps=steps)


FULL = Scale()
QUICK = Scale(num_steps=40, num_held_out=96, choose_rates=False, all_baselines=False)
QUICK_ROWS = {
    "chain": ("gkd", "opd", "vopd", "many_faces", "scope"),
    "noisy_teacher": ("revisiting", "tip", "fire_opd"),
    "mismatch": ("tropd", "reopold"),
}
"""What `--quick` measures where neither a method nor a task is named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A claim, and what was measured."""

    claim: Claim
    metric: Metric
    state: State
    note: str = ""
    """Why there are no numbers, or what was fitted to the small world."""
    seeds: tuple[int, ...] = ()
    ours: tuple[float, ...] = ()
    """The metric, by seed."""
    baseline: tuple[float, ...] = ()
    """The baseline's, by seed."""
    verdict: Verdict | None = None
    rates: tuple[float, float] | None = None
    """Learning rate of the method and of the baseline."""


@final
class Table:
    """What the results in a folder say at a scale."""

    def __init__(self, results: Results, scale: Scale = FULL) -> None:
        """Keep where to look; files are read as they are asked for."""
        self._results, self.scale = results, scale

    def row(self, claim: Claim) -> Row:
        """A claim's row as it stands."""
        metric = metric_of(claim.metric)
        if (obstacle := self.obstacle(claim)) is not None:
            return Row(claim=claim, metric=metric, state=obstacle[0], note=obstacle[1])
        pairs = {seed: self._pair(claim, seed) for seed in range(MOST_SEEDS)}
        if failures := [result.failed for pair in pairs.values() for result in pair if result is not None and result.failed]:
            return Row(claim=claim, metric=metric, state="failed", note=failures[0])
        found = {
            seed: (mine, other)
            for seed, (ours, theirs) in pairs.items()
            if ours is not None and theirs is not None and ours.curve is not None and theirs.curve is not None
            if (mine := metric.of(ours.curve, theirs.curve)) is not None
            if (other := metric.of(theirs.curve, theirs.curve)) is not None
        }
        if not found:
            return Row(claim=claim, metric=metric, state="missing")
        mine, other = zip(*found.values(), strict=True)
        ours, theirs = pairs[min(found)]
        assert ours is not None  # `found` has only pairs of results
        assert theirs is not None
        return Row(
            claim=claim,
            metric=metric,
            state="measured",
            note="; ".join(ours.notes),
            seeds=tuple(found),
            ours=mine,
            baseline=other,
            verdict=judge(mine, other, direction=claim.direction, margin=metric.margin),
            rates=(ours.job.learning_rate, theirs.job.learning_rate),
        )

    def obstacle(self, claim: Claim) -> tuple[State, str] | None:
        """Why a row cannot be measured: a method or task that does not exist yet, or a knob that does not fit its recipe."""
        if claim.task not in tasks.TASKS:
            return "waiting", f"{claim.task!r} is no task yet"
        if absent := [name for name in (claim.method, claim.baseline) if name not in REGISTRY]:
            return "waiting", " and ".join(f"{name!r} is not in the registry of recipes" for name in absent)
        try:
            self._kind(claim.task, claim.method, claim)
            self._kind(claim.task, claim.baseline)
        except ConfigError as error:
            return "failed", str(error)
        return None

    def missing(self, claims: Sequence[Claim], seeds: Sequence[int], *, retry: bool = False) -> list[Job]:
        """Jobs that the rows still need, each once; those whose learning rate is not known yet are left out.

        Args:
            claims: Rows.
            seeds: Of the runs.
            retry: Whether jobs that failed count as missing.
        """
        wanted = [
            job for claim in self._possible(claims) for seed in seeds for job in self._jobs(claim, seed) if job is not None
        ]
        return self._unanswered(wanted, retry=retry)

    def missing_rates(self, claims: Sequence[Claim], *, retry: bool = False) -> list[Job]:
        """Jobs of the learning-rate grid that the rows still need."""
        if not self.scale.choose_rates:
            return []
        needed: set[tuple[str, Kind]] = {(claim.task, kind) for claim in self._possible(claims) for kind in self._kinds(claim)}
        return self._unanswered([job for task, kind in sorted(needed) for job in self.grid(task, kind)], retry=retry)

    def grid(self, task_name: str, kind: Kind) -> list[Job]:
        """The validation runs of a task for a kind of estimator; empty where its spokesman is not in the registry."""
        task, method = tasks.get(task_name), SPOKESMEN[kind]
        if method not in REGISTRY:
            return []
        budget = self.scale.budget(task)
        return [
            job_of(task, method, seed=VALIDATION_SEED, learning_rate=rate, budget=budget) for rate in rates_tried(task, kind)
        ]

    def rate(self, task_name: str, kind: Kind) -> float | None:
        """The learning rate of all methods of a kind on a task: the most accurate, the lowest of equals.

        None as long as the grid has not run; the first of the grid where nobody speaks for the kind, or all of its runs failed.
        """
        grid = self.grid(task_name, kind) if self.scale.choose_rates else []
        found = [self._results.read(job) for job in grid]
        if any(result is None for result in found):
            return None
        ended = [(result.curve.end.accuracy, -result.job.learning_rate) for result in found if result and result.curve]
        return -max(ended)[1] if ended else rates_tried(tasks.get(task_name), kind)[0]

    def result(self, task_name: str, method: str, seed: int, claim: Claim | None = None) -> Result | None:
        """What came of a method's run; None where it has not run, or cannot."""
        try:
            job = self._job(task_name, method, seed, claim) if method in REGISTRY else None
        except ConfigError:  # its row says what does not fit
            return None
        return None if job is None else self._results.read(job)

    def _possible(self, claims: Sequence[Claim]) -> list[Claim]:
        return [claim for claim in claims if self.obstacle(claim) is None]

    def _pair(self, claim: Claim, seed: int) -> tuple[Result | None, Result | None]:
        return self.result(claim.task, claim.method, seed, claim), self.result(claim.task, claim.baseline, seed)

    def _baselines(self, claim: Claim) -> list[str]:
        others = BASELINES if self.scale.all_baselines else ()
        return list(dict.fromkeys([claim.baseline, *(name for name in others if name in REGISTRY)]))

    def _jobs(self, claim: Claim, seed: int) -> list[Job | None]:
        shared = [self._job(claim.task, name, seed) for name in self._baselines(claim)]
        return [self._job(claim.task, claim.method, seed, claim), *shared]

    def _job(self, task_name: str, method: str, seed: int, claim: Claim | None = None) -> Job | None:
        task = tasks.get(task_name)
        rate = self.rate(task_name, self._kind(task_name, method, claim))
        if rate is None:
            return None
        return job_of(task, method, seed=seed, learning_rate=rate, budget=self.scale.budget(task), claim=claim)

    def _kinds(self, claim: Claim) -> set[Kind]:
        shared: list[Kind] = [self._kind(claim.task, name) for name in self._baselines(claim)]
        return {self._kind(claim.task, claim.method, claim), *shared}

    def _kind(self, task_name: str, method: str, claim: Claim | None = None) -> Kind:
        task = tasks.get(task_name)
        job = job_of(task, method, seed=0, learning_rate=0.0, budget=self.scale.budget(task), claim=claim)
        recipe, _ = recipe_of(job, task, dict.fromkeys(task.roles, "model"))
        return kind_of(recipe)

    def _unanswered(self, wanted: Sequence[Job], *, retry: bool) -> list[Job]:
        jobs = {job.name: job for job in wanted}
        found = {name: self._results.read(job) for name, job in jobs.items()}
        return [jobs[name] for name, result in found.items() if result is None or (retry and result.failed)]
