"""The whole table: learning rates first, then the runs of every row, then further seeds for what is undecided."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from tutelage.errors import ConfigError
from tutelage.lab import tasks
from tutelage.lab.reproduction.claim import Claim
from tutelage.lab.reproduction.claims import CLAIMS
from tutelage.lab.reproduction.jobs import Job
from tutelage.lab.reproduction.pool import Done, Message, work_off
from tutelage.lab.reproduction.results import Result, Results
from tutelage.lab.reproduction.rows import FULL, MOST_SEEDS, QUICK_ROWS, Row, Scale, Table
from tutelage.lab.reproduction.summary import write_summary
from tutelage.tracking import wording

_LOG = logging.getLogger(__name__)

FOLDER = Path("benchmarks") / "reproduction"
"""Where the committed results lie."""
QUICK_FOLDER = Path("runs") / "reproduction-quick"
"""Where those of `--quick` go, which nobody commits."""


@runtime_checkable
class WorkOff(Protocol):
    """Hands messages out; see `pool.work_off`."""

    def __call__(self, messages: Sequence[Message], done: Done, *, jobs: int) -> None:
        """Return when all are answered."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """What is measured, how often, and where to."""

    claims: tuple[Claim, ...] = CLAIMS
    """Rows."""
    folder: Path = FOLDER
    """Of the results."""
    scale: Scale = FULL
    """How large the runs are."""
    seeds: int = 3
    """Of every row."""
    more_seeds: int = MOST_SEEDS
    """Of the rows that are undecided with `seeds`; not below them."""
    jobs: int = 1
    """Workers at once, of one thread each."""
    retry: bool = False
    """Run again what failed before."""
    work_off: WorkOff = field(default=work_off, repr=False)
    """Runs the jobs; tests put their own."""

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= MOST_SEEDS or self.more_seeds > MOST_SEEDS or self.jobs < 1:
            raise ConfigError(
                f"A reproduction needs 1 <= seeds <= {MOST_SEEDS}, more_seeds <= {MOST_SEEDS} and jobs >= 1, got "
                f"{self.seeds!r}, {self.more_seeds!r} and {self.jobs!r}."
            )

    @property
    def table(self) -> Table:
        """What the results say."""
        return Table(Results(self.folder), self.scale)


def quick_claims() -> tuple[Claim, ...]:
    """The rows of the quick table."""
    return tuple(claim for claim in CLAIMS if claim.method in QUICK_ROWS.get(claim.task, ()))


def reproduce(asked: Reproduction, *, say: Callable[[str], None] = _LOG.info) -> list[Row]:
    """Run what is missing, and return the rows.

    What is there already is not run again, and an interrupt loses nothing but the runs that were going on.

    Args:
        asked: What is measured.
        say: Takes a line before each stage and after each run.

    Raises:
        TutelageError: A worker did not start, or a result could not be written.
    """
    table = asked.table
    for claim in asked.claims:
        if (obstacle := table.obstacle(claim)) is not None:
            say(f"skipped: {claim.method} on {claim.task}: {obstacle[1]}")
    _run(asked, table.missing_rates(asked.claims, retry=asked.retry), "to choose learning rates", say)
    seeds = range(asked.seeds)
    _run(asked, table.missing(asked.claims, seeds, retry=asked.retry), f"for {wording.count(len(seeds), 'seed')}", say)
    undecided = [row.claim for row in map(table.row, asked.claims) if row.verdict is not None and row.verdict.undecided]
    more = range(asked.seeds, asked.more_seeds)
    if undecided and more:
        _run(asked, table.missing(undecided, more), f"more for {wording.count(len(undecided), 'undecided row')}", say)
    rows = [table.row(claim) for claim in asked.claims]
    if asked.scale == FULL:
        write_summary(asked.folder, [table.row(claim) for claim in CLAIMS])
    return rows


def _run(asked: Reproduction, jobs: Sequence[Job], why: str, say: Callable[[str], None]) -> None:
    if not jobs:
        return
    results, models = Results(asked.folder), _models(jobs)
    say(f"{wording.count(len(models), 'model')} to have, then {wording.count(len(jobs), 'run')} {why}.")
    by_name = {job.name: job for job in jobs}
    ended = list[str]()

    def done(message: Message, answer: Message) -> None:
        if "job" not in message:
            if "died" in answer:  # the runs that need it fail by themselves, and say why
                say(f"the model {message['model']} could not be made: {answer['died']}")
            return
        job = by_name[Job.of_json(message["job"]).name]
        died = Result(job=job, failed=answer.get("died"))
        result = Result.of_json(answer["result"]) if "result" in answer else died
        results.write(result)
        ended.append(job.name)
        say(f"{len(ended)}/{len(jobs)} {_told(result)}")

    asked.work_off([{"model": model} for model in models], done, jobs=asked.jobs)
    asked.work_off([{"job": job.as_json()} for job in jobs], done, jobs=asked.jobs)


def _models(jobs: Sequence[Job]) -> list[tuple[str, str, int]]:
    """Task, role and seed of each model that the jobs need; teachers are shared by all seeds."""
    found = {(job.task, role, job.seed if role == "student" else 0): None for job in jobs for role in tasks.get(job.task).roles}
    return sorted(found, key=lambda model: model[1] == "student")  # the teachers take longest


def _told(result: Result) -> str:
    job = result.job
    name = f"{job.task} {job.method} seed {job.seed} at {job.learning_rate:g}"
    if result.curve is None:
        return f"{name}: failed: {result.failed}"
    return f"{name}: {result.curve.start.accuracy:.1%} -> {result.curve.end.accuracy:.1%}, {result.seconds:.0f} s"
