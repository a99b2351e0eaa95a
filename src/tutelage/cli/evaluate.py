"""`tutelage eval`: evaluate a model on held-out prompts."""

import argparse
import json
from typing import Any

from tutelage import run as runs
from tutelage.cli import settings
from tutelage.errors import ConfigError
from tutelage.objectives import CrossEntropy, Term
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import StudentRollouts

PLAIN = Recipe(name="evaluation", rollouts=StudentRollouts(), terms=(Term(name="cross_entropy", signal=CrossEntropy()),))
"""A recipe for those who only look: the student writes, and a teacher, where one is named, is compared with."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    settings.add_arguments(parser)
    parser.description = (
        "Evaluate --student on the prompts of --data (or --evaluation-data), and with --teacher also its divergences from that "
        "teacher. No recipe needs to be named."
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print each number with its interval."""
    result = runs.evaluate(settings.resolve(arguments, default=PLAIN))
    intervals: dict[str, Any] = {name: list(interval) for name, interval in result.intervals.items()}
    if arguments.json:
        print(json.dumps({"metrics": result.metrics, "intervals": intervals}))
        return 0
    from tutelage.tracking.registry import describe

    if not result.metrics:
        raise ConfigError("Nothing was measured. Set evaluation.samples or evaluation.greedy.")
    for name, value in result.metrics.items():
        metric = describe(name)
        around = f"  [{intervals[name][0]:.3f}, {intervals[name][1]:.3f}]" if name in intervals else ""
        print(f"{metric.title:<28} {value:8.3f} {metric.unit:<9}{around}")
    return 0
