"""The page of the documentation that lists every metric: `python -m tutelage.tracking.metrics_page > docs/metrics.md`."""

import sys

from tutelage.tracking.registry import FAMILIES, METRICS, Metric

_DIRECTIONS = {"up": "up", "down": "down", "none": "-"}
_HEAD = """\
# Metrics

Every number that a run logs is declared once, in `tutelage/tracking/registry.py`, and this page is made from there. A name is
`<family>/<what>_<unit>`; `*` stands for a name of the run's own, such as a term's. *Good* says which way is good; `-` means
that neither is good in itself. Metrics of a step are logged with `kind` `train`, those of an evaluation with `eval`; see
[the run folder](run-folder.md).
"""


def render() -> str:
    """The page as Markdown."""
    sections = [_HEAD]
    for family, heading in FAMILIES.items():
        rows = [_row(metric) for metric in METRICS.values() if metric.name.startswith(f"{family}/")]
        head = (f"## `{family}/`: {heading}\n", "| name | unit | good | meaning |", "|---|---|---|---|")
        sections.append("\n".join((*head, *rows, "")))
    return "\n".join(sections)


def _row(metric: Metric) -> str:
    meaning = metric.meaning.replace("|", "\\|")
    return f"| `{metric.name}` | {metric.unit or '-'} | {_DIRECTIONS[metric.direction]} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(render())
