"""The reproduction table: published claims measured on small tasks, with equal rollouts, paired seeds and one rule for all."""

from tutelage.lab.reproduction.claim import Claim
from tutelage.lab.reproduction.claims import CLAIMS, chosen
from tutelage.lab.reproduction.reproduce import FOLDER, QUICK_FOLDER, Reproduction, quick_claims, reproduce
from tutelage.lab.reproduction.rows import FULL, MOST_SEEDS, QUICK, Row, Table
from tutelage.lab.reproduction.summary import as_json
from tutelage.lab.reproduction.table import table

__all__ = [
    "CLAIMS",
    "FOLDER",
    "FULL",
    "MOST_SEEDS",
    "QUICK",
    "QUICK_FOLDER",
    "Claim",
    "Reproduction",
    "Row",
    "Table",
    "as_json",
    "chosen",
    "quick_claims",
    "reproduce",
    "table",
]
