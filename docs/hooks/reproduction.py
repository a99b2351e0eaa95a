"""A hook of the documentation's build: `@reproduction PART` becomes that part of the table, from benchmarks/reproduction.

What was not measured is said to be missing; the page builds without any result.
"""

import re
from pathlib import Path

from tutelage.lab.reproduction.page import PARTS
from tutelage.lab.reproduction.results import Results
from tutelage.lab.reproduction.rows import Table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "reproduction"
_DIRECTIVE = re.compile(r"^@reproduction (\w+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace each directive of a page."""
    return _DIRECTIVE.sub(lambda match: PARTS[match[1]](Table(Results(RESULTS))), markdown)
