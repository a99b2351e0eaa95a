"""Numbers, times and untrusted text in the form in which people read them."""

import math
import re
from collections.abc import Sequence

from tutelage.tracking.registry import Metric

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def duration(seconds: float | int) -> str:
    """A time for people: `48 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def count(number: float | int, noun: str) -> str:
    """A count with its noun in the singular or plural: `1 token`, `12,345 tokens`."""
    return f"{number:,.0f} {noun}" + ("" if number == 1 else "s")


def value(metric: Metric, number: float | int) -> str:
    """A value of a metric: a share as per cent, anything else to three significant digits, with no unit."""
    if not math.isfinite(number):
        return "not finite"
    if metric.unit == "fraction":
        return f"{100 * number:.1f} %"
    return plain(number)


def interval(metric: Metric, ends: tuple[float, float]) -> str:
    """Both ends of an interval, without unit or sign of per cent."""
    return " to ".join(f"{100 * end:.1f}" if metric.unit == "fraction" else plain(end) for end in ends)


def change(metric: Metric, before: float | int, after: float | int) -> str:
    """A signed difference with its unit; shares differ by points."""
    difference = after - before
    sign = "+" if difference >= 0 else "\N{MINUS SIGN}"
    if metric.unit == "fraction":
        return f"{sign}{abs(100 * difference):.1f} points"
    return f"{sign}{plain(abs(difference))} {metric.unit}".rstrip()


def plain(number: float | int) -> str:
    """Three significant digits, no more than three decimals, thousands separated; tiny numbers with an exponent."""
    size = abs(number)
    if size and size < 0.001:
        return f"{number:.1e}".replace("-", "\N{MINUS SIGN}", 1) if number < 0 else f"{number:.1e}"
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{number:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def harmless(text: str) -> str:
    """The text with everything written out that steers a terminal, turns the reading direction or cannot be encoded."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a page; a cell must not hold a bar that is not escaped."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
