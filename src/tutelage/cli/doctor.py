"""`tutelage doctor RECIPE ...`: check models, data and recipe of a run, and look at a few responses, without training."""

import argparse
import json
from dataclasses import asdict

from tutelage.cli import settings
from tutelage.recipes import get
from tutelage.run.doctor import Diagnosis, doctor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    settings.add_arguments(parser)
    parser.description = (
        "Check --student, --teacher and the prompts of --data, let the student answer a few of them and the teacher score the "
        "answers. Without a recipe they are checked as for opd. What would stop a run stops this command, in the same words."
    )
    parser.add_argument("--answers", type=int, default=8, help="prompts that the student answers (default 8)")
    parser.add_argument("--answer-tokens", type=int, default=128, help="longest answer in tokens (default 128)")


def run(arguments: argparse.Namespace) -> int:
    """Diagnose and print what was found."""
    config = settings.resolve(arguments, default=get("opd").recipe())
    found = doctor(config, num_prompts=arguments.answers, max_new_tokens=arguments.answer_tokens)
    if arguments.json:
        print(json.dumps(asdict(found), default=sorted))
    else:
        print(describe(found))
    return 0


def describe(found: Diagnosis) -> str:
    """A diagnosis in words, for a terminal."""
    lines = [
        "The run can start.",
        f"shared ids      {found.report.vocab}",
        f"stop ids        {', '.join(map(str, sorted(found.report.stop_token_ids)))}",
        f"student reads   {found.student_reads!r}",
    ]
    if found.teacher_reads is not None:
        lines.append(f"teacher reads   {found.teacher_reads!r}")
    lines += [f"context         {reason}: {count} prompts" for reason, count in found.contexts.items()]
    lines += [f"{name:<28} {value:10.4f}" for name, value in found.figures.items()]
    lines += [f"note: {note}" for note in found.report.notes]
    lines += [f"suspicious: {suspicion}" for suspicion in found.suspicions]
    return "\n".join(lines)
