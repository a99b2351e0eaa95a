"""`tutelage bench head|step`: our side and TRL's, alternating in one run."""

import argparse
import json
import sys
from dataclasses import fields, replace
from pathlib import Path

from tutelage.errors import ConfigError
from tutelage.lab.bench import compare
from tutelage.lab.bench.settings import DTYPES, SIGNALS, HeadBench, StepBench
from tutelage.lab.bench.tables import table

_HEAD, _STEP = HeadBench(), StepBench()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    benches = parser.add_subparsers(dest="bench", metavar="head|step", required=True)
    _add_head(benches.add_parser("head", help="the loss and its gradients from hidden states", allow_abbrev=False))
    _add_step(benches.add_parser("step", help="whole training steps", allow_abbrev=False))


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print or write what was found."""
    given = vars(arguments)
    settings = _settings(_HEAD if arguments.bench == "head" else _STEP, given)
    out = Path(arguments.out) if arguments.out else None
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"The result cannot be written to {arguments.out!r}: its folder does not exist. Make it first.")

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if isinstance(settings, StepBench):
        result = compare.step(settings, say=say)
    elif arguments.growth:
        result = compare.growth(settings, say=say)
    else:
        result = compare.head(settings, say=say)
    text = json.dumps(result, indent=None if arguments.json else 1)
    if out is not None:
        out.write_text(text + "\n")
    print(text if arguments.json else table(result))
    return 0


def _settings(base: HeadBench | StepBench, given: dict[str, object]) -> HeadBench | StepBench:
    return replace(base, **{field.name: given[field.name] for field in fields(base)})


def _add_head(parser: argparse.ArgumentParser) -> None:
    _add_number(parser, "--vocab", _HEAD.vocab, "rows of both heads")
    _add_number(parser, "--rows", _HEAD.rows, "tokens")
    _add_number(parser, "--width", _HEAD.width, "of the student's hidden states")
    _add_number(parser, "--teacher-width", _HEAD.teacher_width, "of the teacher's hidden states")
    parser.add_argument(
        "--signal",
        dest="signals",
        type=lambda text: tuple(text.split(",")),
        default=_HEAD.signals,
        metavar="NAME[,NAME...]",
        help=f"what is minimised, of {', '.join(SIGNALS)} (default {','.join(_HEAD.signals)})",
    )
    parser.add_argument("--growth", action="store_true", help="our side alone at 512, 2,048 and 16,384 rows")
    _add_shared(parser, _HEAD)


def _add_step(parser: argparse.ArgumentParser) -> None:
    _add_number(parser, "--vocab", _STEP.vocab, "ids of the tokenizer")
    for who, size in (("student", _STEP.student), ("teacher", _STEP.teacher)):
        parser.add_argument(f"--{who}", type=_size, default=size, metavar="WIDTHxLAYERS", help=f"default {size[0]}x{size[1]}")
    _add_number(parser, "--batch", _STEP.batch, "responses of a micro-batch of the peer")
    _add_number(parser, "--accumulation", _STEP.accumulation, "its micro-batches in a step")
    _add_number(parser, "--prompt", _STEP.prompt, "tokens of a prompt")
    _add_number(parser, "--new", _STEP.new, "mean tokens of a response")
    parser.add_argument(
        "--ragged",
        type=float,
        default=_STEP.ragged,
        metavar="SIGMA",
        help="log-normal spread of lengths (default 0: all alike)",
    )
    _add_number(parser, "--microbatch-tokens", _STEP.microbatch_tokens, "ours")
    parser.add_argument("--statistics", action="store_true", help="our per-token statistics in every step")
    _add_shared(parser, _STEP)


def _add_shared(parser: argparse.ArgumentParser, default: HeadBench | StepBench) -> None:
    parser.add_argument("--dtype", choices=DTYPES, default=default.dtype, help="default %(default)s")
    _add_number(parser, "--pairs", default.pairs, "counted repetitions of each side, after one that is not")
    _add_number(parser, "--chunk-mib", default.chunk_mib, "our budget for logits, in MiB")
    _add_number(parser, "--seed", default.seed, "of the inputs")
    parser.add_argument("--out", default="", metavar="FILE", help="also write the result as JSON")
    for flag in ("--json", "--debug"):  # a sub-command's parser knows nothing of its parent's; what it does not see stays
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _add_number(parser: argparse.ArgumentParser, flag: str, default: int, what: str) -> None:
    parser.add_argument(flag, type=int, default=default, metavar="N", help=f"{what} (default {default})")


def _size(text: str) -> tuple[int, int]:
    width, _, layers = text.partition("x")
    if not (width.isdecimal() and layers.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write WIDTHxLAYERS, such as 256x4")
    return int(width), int(layers)
