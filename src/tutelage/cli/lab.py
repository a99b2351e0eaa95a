"""`tutelage lab exact`: bias and variance of any recipe's gradient, without sampling."""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.errors import ConfigError, nearest

if TYPE_CHECKING:
    from tutelage.lab.exact import Comparison, Row
    from tutelage.recipes import Recipe

TOOLS = ("exact",)
LEGEND = """\
value      mean loss in nats; of a score function it means nothing
|gradient| norm of the exact mean gradient with respect to the student's table
sequence   bias against the gradient of the reverse KL of whole responses: |difference| / |that gradient|, and the cosine
token      the same against the reverse KL of every prefix the student visits, what it visits held fixed
variance   trace of the gradient's covariance, relative to plain opd (first row)
S/N        |mean gradient|^2 / trace of the covariance, of one step
products   vocab x width products of the heads, per trained token
student    forwards of the whole student, per trained token; teacher: the same
asks       the most that is asked of the teacher: its whole distribution, its likeliest entries, one number, nothing"""
_COUPLING = (
    "Responses of equal length that no part of a recipe compares are independent: n of them have the same mean gradient\n"
    "and 1/n of the variance."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.usage = f"{parser.prog} exact [--recipe NAME|FILE,...] [--vocab V] [--length T] [--knobs.NAME VALUE] ..."
    parser.set_defaults(show_help=parser.print_help)
    parser.add_argument("tool", nargs="?", metavar="exact", help="enumerate every step that a recipe may take in a tiny world")
    parser.add_argument(
        "--recipe",
        help="methods by name or settings files (.toml, .json), separated by commas (default: all methods that tables can run)",
    )
    parser.add_argument("--vocab", type=int, default=4, help="tokens of the vocabulary (default %(default)s)")
    parser.add_argument("--length", type=int, default=3, help="longest response in tokens (default %(default)s)")
    parser.add_argument(
        "--end",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="let the last token end a response, so that lengths vary",
    )
    parser.add_argument("--num-prompts", type=int, default=1, help="prompts of a step (default %(default)s)")
    parser.add_argument("--n", type=int, default=1, help="responses per prompt are lowered to this (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the tables (default %(default)s)")
    parser.add_argument(
        "--distance",
        type=float,
        default=1.0,
        help="standard deviation of the teacher's logits around the student's (default %(default)s)",
    )
    parser.add_argument("--step", type=int, help="optimiser step for what moves in a recipe (default: when all has arrived)")
    parser.add_argument("--plot", type=Path, help="also draw bias against variance into this .html file")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    if arguments.tool is None:
        arguments.show_help()
        return 0
    if arguments.tool not in TOOLS:
        raise ConfigError(f"The lab has no {arguments.tool!r}{nearest(arguments.tool, TOOLS)}. It has: {', '.join(TOOLS)}.")
    from tutelage.lab.exact import Size, compare

    if arguments.n < 1:
        raise ConfigError(f"--n must be at least 1, got {arguments.n}: it is a number of responses per prompt.")
    found = compare(
        _recipes(arguments.recipe, arguments.rest),
        size=Size(vocab=arguments.vocab, length=arguments.length, end=arguments.end, num_prompts=arguments.num_prompts),
        seed=arguments.seed,
        distance=arguments.distance,
        most_n=arguments.n,
        step=arguments.step,
    )
    if arguments.plot is not None:
        from tutelage.lab.exact.plot import plot

        plot(found, arguments.plot)
    print(json.dumps(as_json(found), indent=1) if arguments.json else _text(found))
    return 0


def as_json(found: "Comparison") -> Any:
    """The comparison as plain values; what is infinite or no number is null."""
    return _plain(asdict(found))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _recipes(named: str | None, flags: Sequence[str]) -> list["Recipe"]:
    """The recipes that are asked for, each with the flags laid over it."""
    from tutelage.lab.exact import obstacle
    from tutelage.recipes import REGISTRY

    for flag in flags:
        if flag.startswith("--") and not flag.startswith(("--knobs.", "--recipe.")):
            raise ConfigError(f"{flag!r} is no setting of a recipe, so it has no effect here. See tutelage lab --help.")
    if named is None:
        possible = (name for name, entry in REGISTRY.items() if obstacle(entry.recipe()) is None)
        return [_recipe(name, flags) for name in possible]
    return [_recipe(name.strip(), flags) for name in named.split(",")]


def _recipe(name: str, flags: Sequence[str]) -> "Recipe":
    from tutelage.cli import settings

    is_file = name.endswith((".toml", ".json"))
    config, rest = (Path(name), []) if is_file else (None, [name])
    return settings.resolve(argparse.Namespace(config=config, from_run=None, output=None, rest=[*rest, *flags])).recipe


def _text(found: "Comparison") -> str:
    size = found.size
    head = [
        "recipe",
        "value",
        "|gradient|",
        "sequence",
        "cos",
        "token",
        "cos",
        "variance",
        "S/N",
        "products",
        "student",
        "teacher",
        "asks",
    ]
    table = [head, *(_cells(row) for row in found.rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(head))]
    lines = [
        "  ".join(_aligned(cell, widths[i], left=i in (0, 12)) for i, cell in enumerate(cells)).rstrip() for cells in table
    ]
    ended = f"the token {size.vocab - 1} ends a response" if size.end else "every response has this length"
    world = (
        f"Vocabulary {size.vocab}, length {size.length} ({ended}), {size.num_prompts} prompt(s), n {found.rows[0].n}, seed "
        f"{found.seed}.\nReverse KL {found.value:.4g} nats per token; |gradient| {found.sequence_gradient_norm:.4g} of whole "
        f"responses, {found.token_gradient_norm:.4g} of prefixes."
    )
    notes = [f"{row.recipe}: {'; '.join(row.notes)}." for row in found.rows if row.notes]
    notes += [f"{row.recipe}: schedules as at step {row.step}." for row in found.rows if row.step]
    return "\n".join([world, "", *lines, "", LEGEND, "", *notes, _COUPLING])


def _cells(row: "Row") -> list[str]:
    biases = [part for bias in (row.sequence_bias, row.token_bias) for part in (_number(bias.relative), f"{bias.cosine:.3f}")]
    costs = [
        str(row.cost.head_products),
        str(row.cost.student_forwards),
        str(row.cost.teacher_forwards),
        row.cost.teacher_gives,
    ]
    numbers = [
        _number(row.value),
        _number(row.gradient_norm),
        *biases,
        _number(row.relative_variance),
        _number(row.signal_to_noise),
    ]
    return [row.recipe, *numbers, *costs]


def _number(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:.3g}"  # what is left of rounding in float64


def _aligned(cell: str, width: int, *, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)
