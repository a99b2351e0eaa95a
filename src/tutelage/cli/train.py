"""`tutelage train RECIPE ...`: distil a student, repeat a run, or continue one."""

import argparse
import json
import sys
from pathlib import Path

from tutelage import run as runs
from tutelage.cli import settings
from tutelage.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    settings.add_arguments(parser)
    parser.add_argument("--resume", type=Path, help="continue an interrupted run from its newest checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where everything lies."""
    if arguments.resume is not None:
        _refuse_settings(arguments)
        result = runs.resume(arguments.resume)
    else:
        config = settings.resolve(arguments)
        if arguments.dry_run:
            from tutelage.run.overrides import to_tree

            print(json.dumps(to_tree(config), indent=1))
            return 0
        result = runs.train(config)
    _tell(result, as_json=arguments.json)
    return 0


def _refuse_settings(arguments: argparse.Namespace) -> None:
    given = [arguments.config, arguments.from_run, arguments.output, *arguments.rest]
    if any(value is not None for value in given):
        raise ConfigError(
            "--resume continues a run with its own settings to the same bits, so it takes no others. To run again with "
            f"changes: tutelage train --from {arguments.resume} --output ANOTHER."
        )


def _tell(result: runs.Result, *, as_json: bool) -> None:
    last = max(result.evaluations, default=None)
    if as_json:
        print(
            json.dumps(
                {
                    "run": str(result.folder),
                    "student": str(result.student),
                    "report": str(result.report),
                    "evaluations": {step: found.metrics for step, found in result.evaluations.items()},
                    "notes": result.notes,
                }
            )
        )
        return
    if last is not None:
        print(comparison(result.evaluations[min(result.evaluations)].metrics, result.evaluations[last].metrics))
    print(f"student  {result.student}\nreport   {result.report}", file=sys.stdout)


def comparison(before: dict[str, float], after: dict[str, float]) -> str:
    """Evaluations side by side, one metric a line."""
    from tutelage.tracking.registry import describe

    shared = [name for name in before if name in after and name.startswith("eval/")]
    width = max((len(describe(name).title) for name in shared), default=0)
    rows = [
        f"{describe(name).title:<{width}}  {before[name]:8.3f} -> {after[name]:8.3f} {describe(name).unit}" for name in shared
    ]
    return "\n".join([f"{'':<{width}}    before -> after", *rows])
