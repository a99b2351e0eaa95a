"""What the project promises of its speed and memory, and what the committed result says of each promise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tutelage.lab.bench.settings import HeadBench, StepBench
from tutelage.lab.bench.summary import Spread, of, ratio

Results = Mapping[str, Any]
"""Outcomes by row; a row that was not measured is absent."""

REAL = StepBench()
ROWS: dict[str, HeadBench | StepBench] = {
    "head-float32": HeadBench(),
    "head-bfloat16": HeadBench(dtype="bfloat16", signals=("reverse_kl",)),
    "head-small-budget": HeadBench(signals=("reverse_kl",), chunk_mib=148),
    "growth": HeadBench(signals=("reverse_kl",), pairs=2),
    "step-float32": REAL,
    "step-bfloat16": replace(REAL, dtype="bfloat16"),
    "step-ragged": replace(REAL, ragged=0.8, batch=2, accumulation=8, new=64),
    "step-small-vocabulary": replace(REAL, vocab=4096),
}
"""What `benchmarks/performance.py` measures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One promise."""

    row: str
    """Of `ROWS`."""
    what: str
    """For people."""
    kind: Literal["at most", "at least"]
    bound: float
    unit: str
    """Follows the number."""
    measure: Callable[[Any], Spread | None]
    """From the row's outcome; None where a side was missing or the system did not tell."""

    def measured(self, results: Results) -> Spread | None:
        """What the results say, or None."""
        return self.measure(results[self.row]) if self.row in results else None

    def met(self, found: Spread) -> bool:
        """Whether the median keeps the promise."""
        return found.median <= self.bound if self.kind == "at most" else found.median >= self.bound


def _over_products(signal: str) -> Callable[[Any], Spread | None]:
    return lambda result: ratio(result["readings"]["ours"][signal], result["products"])


def _over_reverse_kl(signal: str) -> Callable[[Any], Spread | None]:
    return lambda result: ratio(result["readings"]["ours"][signal], result["readings"]["ours"]["reverse_kl"])


def _peer_over_ours_in_head(result: Any) -> Spread | None:
    theirs = result["readings"].get("peer")
    return theirs and ratio(theirs["reverse_kl"], result["readings"]["ours"]["reverse_kl"])


def _extra(result: Any) -> Spread | None:
    return of(result["readings"]["ours"]["reverse_kl"], "extra_mib")


def _step_ratio(name: str, *, ours_first: bool = False) -> Callable[[Any], Spread | None]:
    def measure(result: Any) -> Spread | None:
        ours, theirs = result["readings"]["ours"], result["readings"].get("peer")
        if theirs is None:
            return None
        return ratio(ours, theirs, name) if ours_first else ratio(theirs, ours, name)

    return measure


def _useful(result: Any) -> Spread | None:
    return of(result["readings"]["ours"], "useful_share")


def _grown(name: str, *, per_row: bool) -> Callable[[Any], Spread | None]:
    """The figure of the most rows over that of the fewest."""

    def measure(result: Any) -> Spread | None:
        few, many = result["growth"][0], result["growth"][-1]
        found = ratio(many["readings"], few["readings"], name)
        scale = few["rows"] / many["rows"] if per_row else 1.0
        return found and Spread(median=scale * found.median, lowest=scale * found.lowest, highest=scale * found.highest)

    return measure


_F32, _BF16, _SMALL = "head-float32", "head-bfloat16", "head-small-budget"
TARGETS: tuple[Target, ...] = (
    Target(
        row=_F32,
        what="head, float32: time over its four products",
        kind="at most",
        bound=1.25,
        unit=" x",
        measure=_over_products("reverse_kl"),
    ),
    Target(
        row=_F32,
        what="head, float32: TRL's kernel over ours",
        kind="at least",
        bound=1.7,
        unit=" x",
        measure=_peer_over_ours_in_head,
    ),
    Target(
        row=_BF16,
        what="head, bfloat16: TRL's kernel over ours",
        kind="at least",
        bound=3.3,
        unit=" x",
        measure=_peer_over_ours_in_head,
    ),
    Target(row=_F32, what="head, float32: extra memory", kind="at most", bound=450.0, unit=" MiB", measure=_extra),
    Target(
        row=_SMALL,
        what="head, float32, 148 MiB for logits: time over its four products",
        kind="at most",
        bound=1.25,
        unit=" x",
        measure=_over_products("reverse_kl"),
    ),
    Target(
        row=_SMALL,
        what="head, float32, 148 MiB for logits: extra memory",
        kind="at most",
        bound=450.0,
        unit=" MiB",
        measure=_extra,
    ),
    Target(
        row=_F32,
        what="head: Jensen-Shannon over reverse KL",
        kind="at most",
        bound=1.5,
        unit=" x",
        measure=_over_reverse_kl("jensen_shannon"),
    ),
    Target(
        row=_F32,
        what="head: sum of three terms over reverse KL",
        kind="at most",
        bound=1.5,
        unit=" x",
        measure=_over_reverse_kl("three_terms"),
    ),
    Target(
        row="growth",
        what="head: extra memory at 16,384 rows over 512",
        kind="at most",
        bound=1.1,
        unit=" x",
        measure=_grown("extra_mib", per_row=False),
    ),
    Target(
        row="growth",
        what="head: time per row at 16,384 rows over 512",
        kind="at most",
        bound=1.1,
        unit=" x",
        measure=_grown("cpu_seconds", per_row=True),
    ),
    Target(
        row="step-float32",
        what="step, float32: TRL over ours",
        kind="at least",
        bound=1.8,
        unit=" x",
        measure=_step_ratio("cpu_seconds"),
    ),
    Target(
        row="step-float32",
        what="step, float32: our extra memory over TRL's",
        kind="at most",
        bound=0.6,
        unit=" x",
        measure=_step_ratio("extra_mib", ours_first=True),
    ),
    Target(
        row="step-bfloat16",
        what="step, bfloat16: TRL over ours",
        kind="at least",
        bound=2.6,
        unit=" x",
        measure=_step_ratio("cpu_seconds"),
    ),
    Target(
        row="step-ragged",
        what="step, ragged responses: TRL over ours",
        kind="at least",
        bound=4.0,
        unit=" x",
        measure=_step_ratio("cpu_seconds"),
    ),
    Target(
        row="step-ragged",
        what="step, ragged responses: our share of real tokens",
        kind="at least",
        bound=0.95,
        unit="",
        measure=_useful,
    ),
    Target(
        row="step-small-vocabulary",
        what="step, vocabulary of 4,096: TRL over ours",
        kind="at least",
        bound=1.4,
        unit=" x",
        measure=_step_ratio("cpu_seconds"),
    ),
)
"""All promises, in the order of the documentation's table."""


def target_table(results: Results) -> str:
    """Every promise with what was measured, in Markdown; without a result it says so."""
    rows = [["what", "target", "measured", "range", "measured / target", "met"], ["---"] * 6]
    for target in TARGETS:
        found = target.measured(results)
        cells = [target.what, f"{target.kind} {_number(target.bound, target.unit)}"]
        if found is None:
            cells += ["not measured", "", "", ""]
        else:
            span = f"{_number(found.lowest)} to {_number(found.highest)}"
            over = f"{found.median / target.bound:.2f}"
            cells += [_number(found.median, target.unit), span, over, "yes" if target.met(found) else "**no**"]
        rows.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _number(value: float, unit: str = "") -> str:
    return f"{value:.0f}{unit}" if value >= 100.0 else f"{value:.2f}{unit}"
