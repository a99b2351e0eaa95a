"""A comparison in words, for a terminal."""

from collections.abc import Sequence

from tutelage.tracking import wording
from tutelage.tracking.comparison.compare import Comparison, Side
from tutelage.tracking.comparison.prompts import Answers
from tutelage.tracking.registry import Metric

_MOST_TOKENS = 60
"""Tokens of a response that are shown around its first difference."""
_BEFORE = 20
MARK = ">>"
"""Stands before the first token that differs."""


def describe(found: Comparison, *, num_prompts: int = 3) -> str:
    """Final metrics in columns, a few prompts with both responses, and what could not be compared."""
    names = [run.name for run in found.runs]
    blocks = [_table(found), *(_prompt(each, names) for each in found.prompts[:num_prompts]), *found.notes]
    return "\n\n".join(blocks)


def _table(found: Comparison) -> str:
    head = ["", *(run.name for run in found.runs)]
    lines = [
        [f"{each.metric.title}, {each.metric.unit}".rstrip(", "), *(_cell(each.metric, side) for side in each.sides)]
        for each in found.findings
    ]
    steps = ["last evaluation", *("never" if step is None else f"step {step:,}" for step in found.steps)]
    told = (
        "Second and later columns: the difference from the first run, with its paired 95 % interval; * where it excludes zero."
    )
    return f"{_columns([head, steps, *lines])}\n\n{told}"


def _cell(metric: Metric, side: Side | None) -> str:
    if side is None:
        return "-"
    told = wording.value(metric, side.value)
    if side.paired is None:
        return told
    ends = wording.interval(metric, side.paired.interval)
    change = wording.change(metric, side.paired.first, side.paired.second)
    return f"{told} ({change} [{ends}]{' *' if side.paired.clear else ''})"


def _prompt(each: Answers, names: Sequence[str]) -> str:
    expected = "" if each.answer is None else f"   expected {wording.harmless(each.answer)}"
    width = max(map(len, names))
    lines = [f"prompt {wording.harmless(each.prompt)!r}{expected}"]
    for place, (name, record) in enumerate(zip(names, each.records, strict=True)):
        mark = {True: "right", False: "wrong", None: ""}[record.correct]
        at = each.differs_at[place]
        lines.append(f"  {name:<{width}}  {mark:<5}  {_shown(record.tokens, at)}")
        if at is not None and at < len(record.tokens):
            lines.append(f"  {'':<{width}}         at token {at + 1}: {_numbers(each, place, at)}")
    return "\n".join(lines)


def _shown(tokens: Sequence[str], at: int | None) -> str:
    start = 0 if at is None else max(at - _BEFORE, 0)
    pieces = [wording.harmless(token).replace("\n", "\\n") for token in tokens[start : start + _MOST_TOKENS]]
    if at is not None:
        pieces.insert(at - start, MARK)
    return ("..." if start else "") + "".join(pieces) + ("..." if start + _MOST_TOKENS < len(tokens) else "")


def _numbers(each: Answers, place: int, at: int) -> str:
    record = each.records[place]
    columns = (
        ("student", record.student_log_probs),
        ("teacher", record.teacher_log_probs),
        ("reverse KL", record.reverse_kl_nats),
    )
    told = [f"{name} {values[at]:.3f}" for name, values in columns if values and values[at] == values[at]]
    return f"{', '.join(told)} nats" if told else "not measured"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
