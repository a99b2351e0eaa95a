"""`tutelage COMMAND ...`: finds the command, runs it, and turns errors into words and exit codes."""

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tutelage import __version__, errors
from tutelage.errors import TutelageError


class Command(NamedTuple):
    """A command: where it lives, and what it is for."""

    module: str
    """Has `add_arguments(parser)` and `run(arguments) -> int`; imported only when the command is asked for."""
    purpose: str


COMMANDS: dict[str, Command] = {
    "quickstart": Command("tutelage.cli.quickstart", "make a teacher and a student on the spot, distil, evaluate, report"),
    "train": Command("tutelage.cli.train", "distil a student from its teacher on your prompts"),
    "eval": Command("tutelage.cli.evaluate", "evaluate a model on held-out prompts, against a teacher if one is named"),
    "recipes": Command("tutelage.cli.recipes", "list the methods, or print one method's card"),
    "doctor": Command("tutelage.cli.doctor", "check a student, a teacher and prompts without training"),
    "report": Command("tutelage.cli.report", "write the report of a run again, alone or beside other runs"),
}

EXIT_CODES: dict[type[BaseException], int] = {
    errors.PreflightError: 3,
    errors.ConfigError: 2,
    errors.DataError: 3,
    errors.ModelError: 3,
    errors.NumericsError: 4,
    errors.Interrupted: 5,
    TutelageError: 1,
}
"""0 done, 1 failed while running, 2 a wrong command or setting, 3 models or data do not fit, 4 numbers are not finite,
5 stopped as asked with the state saved, 130 stopped at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = next((argument for argument in given if argument in COMMANDS), None)
    parser, sub = _parser(), None
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for known, command in COMMANDS.items():
        sub = commands.add_parser(known, help=command.purpose, description=command.purpose.capitalize() + ".")
        if known == name:
            importlib.import_module(command.module).add_arguments(sub)
        _add_common(sub)
    if not given:
        parser.print_help()
        return 0
    known_arguments, rest = parser.parse_known_args(given)
    if known_arguments.command is None:
        parser.error("name a command")
    known_arguments.rest = rest
    return _run(COMMANDS[known_arguments.command], known_arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tutelage",
        description="On-policy distillation of language models.",
        epilog="exit codes: 0 done, 1 failed while running, 2 wrong command or setting, 3 models or data do not fit, "
        "4 numbers are not finite, 5 stopped as asked with the state saved, 130 stopped at once",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tutelage {__version__}")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.allow_abbrev = False
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")


def _run(command: Command, arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.DEBUG if arguments.debug else logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return importlib.import_module(command.module).run(arguments)
    except TutelageError as error:
        if arguments.debug:
            logging.getLogger(__name__).exception("%s", type(error).__name__)
        return _explain(error, as_json=arguments.json)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        return 0


def _explain(error: TutelageError, *, as_json: bool) -> int:
    code = next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    if as_json:
        print(json.dumps({"error": type(error).__name__, "message": str(error), "exit_code": code}))
    else:
        print(f"{'stopped' if code == 5 else 'error'}: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
