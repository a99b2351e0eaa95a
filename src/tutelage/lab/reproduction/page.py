"""The parts of the documentation's page: Markdown, made of the results and of nothing else."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from tutelage.lab import tasks
from tutelage.lab.reproduction import picture
from tutelage.lab.reproduction.claim import Claim
from tutelage.lab.reproduction.claims import BASELINES, CLAIMS, SETUPS
from tutelage.lab.reproduction.curves import Point
from tutelage.lab.reproduction.recipes import COMMON
from tutelage.lab.reproduction.results import Result
from tutelage.lab.reproduction.rows import GRIDS, MOST_SEEDS, SPOKESMEN, Row, Table
from tutelage.lab.reproduction.table import DIRECTIONS, difference, mean_and_spread
from tutelage.lab.reproduction.verdict import RULE
from tutelage.tracking.wording import markdown_table

_NOTHING = "Nothing is measured yet."
_SHOWN = 4
"""Methods that are named as the highest of a task."""


def rows(table: Table) -> str:
    """The claims with their verdicts."""
    head = ["method", "task", "verdict", "the paper says", "measured", "difference", "ours", "baseline", "reproduced by"]
    return markdown_table(head, [_row(table.row(claim)) for claim in CLAIMS])


def _row(row: Row) -> list[str]:
    claim = row.claim
    against = f"{row.metric.title}, {DIRECTIONS[claim.direction]} `{claim.baseline}`"
    told = [f"{claim.statement} ({_source(claim.source)})", against]
    names, command = [f"`{claim.method}`", f"`{claim.task}`"], f"`{claim.command}`"
    if row.verdict is None:
        return [*names, row.state, *told, "", "", "", command]
    numbers = [difference(row), mean_and_spread(row, row.ours), mean_and_spread(row, row.baseline)]
    return [*names, f"**{row.verdict.word}**, {len(row.seeds)} seeds", *told, *numbers, command]


def count(table: Table) -> str:
    """How many rows have which verdict."""
    found = [table.row(claim) for claim in CLAIMS]
    words = Counter(row.verdict.word if row.verdict else row.state for row in found)
    return f"Of {len(found)} rows: {', '.join(f'{number} {word}' for word, number in words.most_common())}."


def rule(_: Table) -> str:
    """How a verdict comes about."""
    return RULE


def rates(table: Table) -> str:
    """The chosen learning rates, by task and kind of estimator."""
    measured = [task for task in _tasks() if any(table.rate(task, kind) is not None for kind in SPOKESMEN)]
    if not measured:
        return _NOTHING
    head = ["task", *(f"{kind} (`{method}`)" for kind, method in SPOKESMEN.items())]
    cells = [[f"`{task}`", *(_rate(table.rate(task, kind)) for kind in SPOKESMEN)] for task in measured]
    tried = "; ".join(f"{kind}: {', '.join(f'{rate:g}' for rate in grid)}" for kind, grid in GRIDS.items())
    scales = {task: tasks.get(task).learning_rate_scale for task in measured}
    scaled = "".join(f"; on `{task}` {scale:g} times these" for task, scale in scales.items() if scale != 1.0)
    return f"Tried: {tried}{scaled}.\n\n{markdown_table(head, cells)}"


def knobs(table: Table) -> str:
    """What is turned away from the published defaults."""
    claims = {(claim.method, claim.task): claim for claim in CLAIMS}
    cells = [
        [f"`{method}`", f"`{task}`", _knobs(claim), table.row(claim).note]
        for (method, task), claim in claims.items()
        if SETUPS.get(method) or claim.knobs
    ]
    told = f"In every row: {'; '.join(COMMON)}."
    return (
        f"{told}\n\n{markdown_table(['method', 'task', 'turned', 'fitted to the small vocabulary'], cells)}" if cells else told
    )


def curves(table: Table) -> str:
    """For each task with results: what it isolates, the curves, and the ends of all methods side by side."""
    return "\n\n".join(section for task in _tasks() if (section := _section(table, task))) or _NOTHING


def when(table: Table) -> str:
    """For each task with results what it isolates, which methods ended highest, and what was decided there."""
    return "\n\n".join(section for task in _tasks() if (section := _advice(table, task))) or _NOTHING


def _advice(table: Table, task: str) -> str:
    found = _of_task(table, task)
    if not found:
        return ""
    ends = {method: [result.curve.end.accuracy for result in ended if result.curve] for method, ended in found.items()}
    before = fmean(result.curve.start.accuracy for result in _every_seed(found) if result.curve)
    best = sorted(ends, key=lambda method: -fmean(ends[method]))[:_SHOWN]
    rows = [row for row in map(table.row, CLAIMS) if row.claim.task == task and row.verdict is not None]
    decided = [
        f"- {row.verdict.word}: `{row.claim.method}` {DIRECTIONS[row.claim.direction]} `{row.claim.baseline}` "
        f"({row.metric.title}, {difference(row)})"
        for row in rows
        if row.verdict and not row.verdict.undecided
    ]
    highest = ", ".join(f"`{method}` {fmean(ends[method]):.1%} ({len(ends[method])} seeds)" for method in best)
    told = f"Accuracy before training {before:.1%}. Highest at the end: {highest}."
    none = "No claim was decided here: all intervals hold both signs."
    return f"## {task}\n\n{tasks.get(task).isolates}\n\n{told}\n\n" + ("\n".join(decided) or none)


def comparison(table: Table, claim: Claim) -> str:
    """The curves of a claim's method and of what it is compared with; empty where one of them was not run."""
    found = _found(table, claim.task, {claim.method: claim, claim.baseline: None})
    return _drawn(found, claim.task) if len(found) == 2 else ""


def _section(table: Table, task: str) -> str:
    found = _of_task(table, task)
    if not found:
        return ""
    drawn = _drawn(found, task)
    head = ["", "accuracy", "pass@8", "reverse KL", "forward KL", "entropy", "length", "thousand tokens", "seconds", "seeds"]
    cells = [_ends(f"`{method}`", ended) for method, ended in found.items()]
    begun = _every_seed(found)
    before = _ends("before training", begun, place=0)
    starts = ", ".join(f"{result.curve.start.accuracy:.0%}" for result in begun if result.curve is not None)
    told = f"Accuracy before training, by seed: {starts}."
    return f"### {task}\n\n{tasks.get(task).isolates}\n\n{told}\n\n{drawn}\n\n{markdown_table(head, [before, *cells])}"


def _every_seed(found: Mapping[str, Sequence[Result]]) -> Sequence[Result]:
    """Of the method that ran with the most seeds: all methods of a seed begin alike."""
    return max(found.values(), key=len)


def _of_task(table: Table, task: str) -> dict[str, list[Result]]:
    """Results of the baselines and of every method that has a row on the task."""
    claims = {claim.method: claim for claim in CLAIMS if claim.task == task}
    return _found(table, task, {method: claims.get(method) for method in dict.fromkeys([*BASELINES, *claims])})


def _found(table: Table, task: str, methods: Mapping[str, Claim | None]) -> dict[str, list[Result]]:
    """Method -> its results by seed; methods without any are left out."""
    found: dict[str, list[Result]] = {}
    for method, claim in methods.items():
        results = [table.result(task, method, seed, claim) for seed in range(MOST_SEEDS)]
        if ended := [result for result in results if result is not None and result.curve is not None]:
            found[method] = ended
    return found


def _drawn(found: Mapping[str, Sequence[Result]], task: str) -> str:
    teachers = [result.teacher_accuracy for ended in found.values() for result in ended if result.teacher_accuracy is not None]
    return picture.draw(
        {method: _mean_curve(ended) for method, ended in found.items()},
        title=f"Accuracy on {task} against tokens written",
        reference=fmean(teachers) if teachers else None,
    )


def _ends(name: str, found: Sequence[Result], *, place: int = -1) -> list[str]:
    points: list[Point] = [result.curve.points[place] for result in found if result.curve is not None]
    covered = [point.coverage for point in points if point.coverage is not None]
    means = {
        field: fmean(float(getattr(point, field)) for point in points)
        for field in ("accuracy", "reverse_kl", "forward_kl", "entropy", "length", "tokens", "seconds")
    }
    return [
        name,
        f"{means['accuracy']:.1%}",
        f"{fmean(covered):.1%}" if covered else "",
        *(f"{means[field]:.3f}" for field in ("reverse_kl", "forward_kl", "entropy")),
        f"{means['length']:.1f}",
        f"{means['tokens'] / 1000:.0f}",
        f"{means['seconds']:.0f}",
        str(len(points)) if place else "",
    ]


def _mean_curve(found: Sequence[Result]) -> list[tuple[float, float]]:
    """Mean over seeds of tokens and accuracy, evaluation by evaluation."""
    columns = zip(*(result.curve.points for result in found if result.curve is not None), strict=False)
    return [(fmean(float(point.tokens) for point in points), fmean(point.accuracy for point in points)) for points in columns]


def _tasks() -> list[str]:
    return [name for name in tasks.TASKS if any(claim.task == name for claim in CLAIMS)]


def _knobs(claim: Claim) -> str:
    turned = {**SETUPS.get(claim.method, {}), **claim.knobs}
    return ", ".join(f"`{name}` = {value}" for name, value in turned.items())


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:g}"


def _source(source: str) -> str:
    return f"[{source}](https://arxiv.org/abs/{source})" if source.replace(".", "").isdigit() else source


PARTS: Mapping[str, Callable[[Table], str]] = {
    "rows": rows,
    "count": count,
    "rule": rule,
    "rates": rates,
    "knobs": knobs,
    "curves": curves,
    "when": when,
}
"""By the name under which the page asks for them."""
