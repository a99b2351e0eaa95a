"""The table of faults in the documentation names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_fault_of_the_table_has_a_test_of_that_name():
    rows = [line for line in (ROOT / "docs" / "reliability.md").read_text().splitlines() if line.startswith("| ")][1:]
    written = {
        name for path in ROOT.glob("tests/**/test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    named = [re.findall(r"`(test_\w+)`", row) for row in rows if not row.startswith("| ---")]
    assert len(named) > 10
    assert all(named), "a fault without a test is a promise"
    assert not {name for names in named for name in names} - written
