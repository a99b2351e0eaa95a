"""`tutelage data write PROMPTS OUTPUT ...`: have a teacher that only gives text respond to prompts."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tutelage.errors import ConfigError, nearest

ACTIONS = ("write",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.usage = "tutelage data write PROMPTS OUTPUT --teacher-url URL --teacher-model NAME [...]"
    parser.description = (
        "write asks a chat endpoint for responses to the prompts of a file and writes them beside the prompts, as a file that "
        "sft and every other recipe that reads responses takes as its data. What was answered is kept: after an interruption "
        "the same command goes on."
    )
    parser.add_argument("action", metavar="ACTION", help=f"one of {', '.join(ACTIONS)}")
    parser.add_argument("prompts", metavar="PROMPTS", help="file, folder or data set with the prompts")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="new .jsonl file")
    parser.add_argument("--column", action="append", default=[], metavar="NAME=COLUMN", help="such as prompt=question")
    parser.add_argument("--start", type=int, default=0, help="rows passed over at the beginning (default 0)")
    parser.add_argument("--limit", type=int, help="rows taken after those (default all)")
    parser.add_argument("--teacher-url", default="", help="address without a path")
    parser.add_argument("--teacher-model", default="", help="name of the model there")
    parser.add_argument("--key-variable", help="environment variable that holds the key")
    parser.add_argument("--system", default="", help="turn before each prompt that only the teacher reads")
    parser.add_argument("--n", type=int, default=1, help="responses to each prompt (default 1)")
    parser.add_argument("--temperature", type=float, default=0.0, help="of the teacher (default 0)")
    parser.add_argument("--max-tokens", type=int, default=1024, help="longest response, in its tokens (default 1024)")
    parser.add_argument("--seed", type=int, default=0, help="of the first response to each prompt (default 0)")
    parser.add_argument("--recording", default="", help="file of answers (default beside OUTPUT)")
    parser.add_argument("--offline", action="store_true", help="take answers from the recording only")
    parser.add_argument("--prompt-price", type=float, default=0.0, help="of a million tokens that the teacher reads")
    parser.add_argument("--written-price", type=float, default=0.0, help="of a million tokens that it writes")
    parser.add_argument("--most-cost", type=float, help="ask nothing more once this much was spent")
    parser.add_argument("--in-flight", type=int, default=16, help="requests under way at the same time (default 16)")
    parser.add_argument("--timeout-seconds", type=float, default=120.0, help="longest silence of the endpoint (default 120)")


def run(arguments: argparse.Namespace) -> int:
    """Write, and say what was written."""
    if arguments.action not in ACTIONS:
        guess = nearest(arguments.action, ACTIONS)
        raise ConfigError(f"tutelage data has no action {arguments.action!r}{guess}. Actions: {', '.join(ACTIONS)}.")
    from tutelage.data import DataSource
    from tutelage.run.text_teacher import TextTeacher, beside, write_responses
    from tutelage.serving import Patience
    from tutelage.serving.endpoint import TextEndpoint
    from tutelage.serving.text import Prices

    source = DataSource(
        path=arguments.prompts, columns=_columns(arguments.column), start=arguments.start, limit=arguments.limit
    )
    teacher = TextTeacher(
        endpoint=TextEndpoint(
            url=arguments.teacher_url,
            model=arguments.teacher_model,
            key_variable=arguments.key_variable,
            recording=arguments.recording or beside(arguments.output),
            offline=arguments.offline,
            prices=Prices(
                per_million_prompt_tokens=arguments.prompt_price, per_million_completion_tokens=arguments.written_price
            ),
            most_cost=arguments.most_cost,
            patience=Patience(timeout_seconds=arguments.timeout_seconds, in_flight=arguments.in_flight),
        ),
        system=arguments.system,
        n=arguments.n,
        temperature=arguments.temperature,
        max_tokens=arguments.max_tokens,
        seed=arguments.seed,
    )
    found = write_responses(source, teacher, arguments.output, progress=_show)
    if arguments.json:
        print(json.dumps(asdict(found)))
        return 0
    print(f"{found.responses} responses in {found.file}, {found.cut} of them cut at {arguments.max_tokens} tokens.")
    print(f"The teacher read {found.prompt_tokens} tokens and wrote {found.completion_tokens}, which cost {found.cost:.4f}.")
    return 0


def _columns(given: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise ConfigError(f"--column takes NAME=COLUMN, such as prompt=question, got {name + equals + column!r}.")
    return {name: column for name, _, column in pairs}


def _show(done: int, total: int) -> None:
    print(f"\rwrote {done} of {total} responses", end="" if done < total else "\n", file=sys.stderr, flush=True)
