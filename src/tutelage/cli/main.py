"""`tutelage COMMAND ...`: finds the command, runs it, and turns errors into words and exit codes."""

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tutelage import __version__, errors
from tutelage.errors import ConfigError, TutelageError, nearest


class Command(NamedTuple):
    """A command: where it lives, and what it is for."""

    module: str
    """Has `add_arguments(parser)` and `run(arguments) -> int`; imported only when the command is asked for."""
    purpose: str
    has_settings: bool = False
    """Whether arguments that the command does not name itself are settings of a run."""


COMMANDS: dict[str, Command] = {
    "quickstart": Command("tutelage.cli.quickstart", "make a teacher and a student on the spot, distil, evaluate, report"),
    "train": Command("tutelage.cli.train", "distil a student from its teacher on your prompts", has_settings=True),
    "eval": Command(
        "tutelage.cli.evaluate", "evaluate a model on held-out prompts, against a teacher if one is named", has_settings=True
    ),
    "recipes": Command("tutelage.cli.recipes", "list the methods, or print one method's card"),
    "doctor": Command("tutelage.cli.doctor", "check a student, a teacher and prompts without training", has_settings=True),
    "lab": Command("tutelage.cli.lab", "bias and variance of any recipe's gradient, exactly", has_settings=True),
    "reproduce": Command("tutelage.cli.reproduce", "measure published claims on small tasks, and say which hold"),
    "bench": Command("tutelage.cli.bench", "measure time and memory, beside TRL where it is installed"),
    "cache": Command("tutelage.cli.cache", "fill, look at, check and trim a folder of teachers' scores", has_settings=True),
    "data": Command("tutelage.cli.data", "have a teacher that only gives text respond to prompts"),
    "report": Command("tutelage.cli.report", "write the report of a run again, alone or beside other runs"),
    "compare": Command(
        "tutelage.cli.compare", "lay runs side by side: paired differences, and the same prompts token by token"
    ),
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
"""The first kind that fits decides. 0 is success and 130 a run that was stopped at once; docs/cli.md explains all of them."""

_EPILOG = (
    "exit codes: 0 done, 1 failed while running, 2 wrong command or setting, 3 models or data do not fit, 4 numbers are not "
    "finite, 5 stopped as asked with the state saved, 130 stopped at once"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(given)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if "--debug" in given:
            logging.getLogger(__name__).exception("%s", type(error).__name__)
        return _explain(error, as_json="--json" in given)


def _run(given: Sequence[str]) -> int:
    debug = "--debug" in given
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s: %(message)s")
    name = next((argument for argument in given if not argument.startswith("-")), None)
    if name is None:
        parser = _parser(name)
        parser.parse_args(given)  # --help and --version end here
        parser.print_help()
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"There is no command {name!r}{nearest(name, COMMANDS)}. Commands: {', '.join(COMMANDS)}.")
    known, rest = _parser(name).parse_known_args(given)
    if rest and not COMMANDS[name].has_settings:
        flags = [f"--{flag.replace('_', '-')}" for flag in vars(known)]
        raise ConfigError(f"tutelage {name} has no argument {rest[0]!r}{nearest(rest[0], flags)}. See tutelage {name} --help.")
    known.rest = rest
    return importlib.import_module(COMMANDS[name].module).run(known)


def _parser(name: str | None) -> argparse.ArgumentParser:
    """All commands by name and purpose, and one of them with its arguments."""
    parser = argparse.ArgumentParser(
        prog="tutelage", description="On-policy distillation of language models.", epilog=_EPILOG, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"tutelage {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for known, command in COMMANDS.items():
        sub = commands.add_parser(
            known, help=command.purpose, description=command.purpose.capitalize() + ".", allow_abbrev=False
        )
        if known == name:
            importlib.import_module(command.module).add_arguments(sub)
        _add_common(sub)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")


def _explain(error: Exception, *, as_json: bool) -> int:
    code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    message = str(error)
    if not isinstance(error, TutelageError | OSError):
        message = f"{type(error).__name__}: {message}. Nobody foresaw this one; --debug shows where it came from."
    if as_json:
        print(json.dumps({"error": type(error).__name__, "message": message, "exit_code": code}))
    else:
        print(f"{'stopped' if isinstance(error, errors.Interrupted) else 'error'}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
