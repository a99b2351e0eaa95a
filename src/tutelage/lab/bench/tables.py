"""A bench's outcome for people."""

from collections.abc import Sequence

from tutelage.lab.bench.compare import PEER_IS_MISSING, Result
from tutelage.lab.bench.summary import Spread, of, ratio

NOTE = "Seconds of processor time on one thread: the median over the repetitions, and their range."


def table(result: Result) -> str:
    """The outcome as lines of text."""
    lines = {"head": _head, "growth": _growth, "step": _step}[result["bench"]](result)
    missing = [] if result["peer"] or result["bench"] == "growth" else [PEER_IS_MISSING]
    return "\n".join([*aligned(lines), "", NOTE, *missing])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first one to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def shown(value: Spread | None, form: str = ".3g") -> str:
    """A figure, or nothing where it was not measured."""
    return "" if value is None else value.text(form)


def _head(result: Result) -> list[list[str]]:
    products, sides, peer = result["products"], result["readings"], result["peer"] or "peer"
    rows = [["", "seconds", "/ four products", "extra MiB", f"{peer}: seconds", "/ ours", "extra MiB"]]
    rows.append(["four products", shown(of(products)), "", "", "", "", ""])
    for signal, ours in sides["ours"].items():
        theirs = sides.get("peer", {}).get(signal, [])
        rows.append(
            [
                signal,
                shown(of(ours)),
                shown(ratio(ours, products)),
                shown(of(ours, "extra_mib"), ".0f"),
                shown(of(theirs)),
                shown(ratio(theirs, ours)) if theirs else "",
                shown(of(theirs, "extra_mib"), ".0f"),
            ]
        )
    return rows


def _growth(result: Result) -> list[list[str]]:
    rows = [["rows", "seconds", "seconds per 1,000 rows", "extra MiB"]]
    for part in result["growth"]:
        taken = of(part["readings"])
        assert taken is not None
        each = 1000.0 * taken.median / part["rows"]
        rows.append([f"{part['rows']:,}", taken.text(".3g"), f"{each:.3g}", shown(of(part["readings"], "extra_mib"), ".0f")])
    return rows


def _step(result: Result) -> list[list[str]]:
    sides = result["readings"]
    rows = [["", "seconds", "tokens/s", "useful share", "extra MiB", "peak MiB"]]
    for name, readings in (("ours", sides["ours"]), (result["peer"] or "", sides.get("peer", []))):
        taken, share = of(readings), of(readings, "useful_share")
        if taken is None or share is None:
            continue
        memory = [shown(of(readings, key), ".0f") for key in ("extra_mib", "peak_mib")]
        rows.append([name, taken.text(".3g"), f"{readings[0]['tokens'] / taken.median:.0f}", f"{share.median:.1%}", *memory])
    if "peer" in sides:
        over = [shown(ratio(sides["peer"], sides["ours"], name)) for name in ("cpu_seconds", "extra_mib", "peak_mib")]
        rows.append([f"{result['peer']} / ours", over[0], "", "", *over[1:]])
    for phase in sides["ours"][0]["phases"]:
        spent = of([reading["phases"] for reading in sides["ours"]], phase)
        rows.append([f"  ours, {phase} (wall)", shown(spent), "", "", "", ""])
    return rows
