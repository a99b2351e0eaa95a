"""`tutelage cache ACTION ...`: fill, look at, check and trim the folder of teachers' scores."""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutelage.errors import CacheError, ConfigError, nearest
from tutelage.scores import DiskStore
from tutelage.scores.shards import read_columns
from tutelage.scores.teachers import known_teachers

ACTIONS = ("precompute", "stats", "verify", "merge", "prune")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.usage = (
        "tutelage cache precompute RECIPE --scores.folder FOLDER [--config FILE] [--SETTING VALUE ...]\n"
        "       tutelage cache precompute --responses-of RUN --scores.folder FOLDER [--SETTING VALUE ...]\n"
        "       tutelage cache stats FOLDER\n"
        "       tutelage cache verify FOLDER [--drop]\n"
        "       tutelage cache merge FOLDER\n"
        "       tutelage cache prune FOLDER --max-gib SIZE"
    )
    parser.description = (
        "precompute has the teacher score every response of a run whose responses are fixed, so that the run, with the same "
        "settings and --scores.mode offline, loads no teacher. stats counts what a folder holds, verify compares every shard "
        "with its checksum (and removes damaged ones with --drop), merge makes few shards of many small ones, prune removes "
        "what was least recently used."
    )
    parser.add_argument("action", metavar="ACTION", help=f"one of {', '.join(ACTIONS)}")
    parser.add_argument("--drop", action="store_true", help="verify: remove damaged shards")
    parser.add_argument("--max-gib", type=float, help="prune: size in GiB that the scores may keep")
    parser.add_argument("--config", type=Path, help="precompute: TOML or JSON file with settings")
    parser.add_argument("--from", dest="from_run", type=Path, help="precompute: take all settings of an earlier run")
    parser.add_argument(
        "--responses-of", type=Path, help="precompute: take all settings of an earlier run, and the responses that it wrote"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do one of the five."""
    action, rest = arguments.action, arguments.rest
    if action not in ACTIONS:
        raise ConfigError(f"tutelage cache has no action {action!r}{nearest(action, ACTIONS)}. Actions: {', '.join(ACTIONS)}.")
    if arguments.drop and action != "verify":
        raise ConfigError(f"--drop belongs to tutelage cache verify, and says nothing to {action}.")
    if arguments.max_gib is not None and action != "prune":
        raise ConfigError(f"--max-gib belongs to tutelage cache prune, and says nothing to {action}.")
    if arguments.responses_of is not None and action != "precompute":
        raise ConfigError(f"--responses-of belongs to tutelage cache precompute, and says nothing to {action}.")
    if action == "precompute":
        return _precompute(arguments)
    if len(rest) != 1 or rest[0].startswith("-"):
        raise ConfigError(
            f"tutelage cache {action} takes one folder, got {' '.join(rest) or 'none'}. See tutelage cache --help."
        )
    folder = Path(rest[0])
    if not (folder / "shards-1").is_dir():
        raise ConfigError(
            f"{str(folder)!r} is no score cache: it has no folder 'shards-1'. Give the folder of --scores.folder."
        )
    store = DiskStore(folder, max_bytes=sys.maxsize)
    match action:
        case "stats":
            return _tell(_stats(store), as_json=arguments.json)
        case "verify":
            found = store.verify(drop=arguments.drop)
            _tell({**asdict(found), "dropped": len(found.damaged) if arguments.drop else 0}, as_json=arguments.json)
            return 1 if found.damaged and not arguments.drop else 0
        case "merge":
            return _merge(store, as_json=arguments.json)
        case _:
            return _prune(store, arguments)


def _precompute(arguments: argparse.Namespace) -> int:
    from tutelage.cli import settings
    from tutelage.run.precomputing import precompute

    arguments.output, earlier = None, arguments.responses_of
    arguments.from_run = arguments.from_run or earlier
    found = precompute(settings.resolve(arguments), responses_of=earlier, progress=_show)
    return _tell(asdict(found), as_json=arguments.json)


def _merge(store: DiskStore, *, as_json: bool) -> int:
    before = store.shards()
    try:
        store.merge()
    except OSError as error:
        raise CacheError(
            f"The shards of {str(store.folder)!r} cannot be merged: {error.strerror or error}. All scores are where they were. "
            "Free some space, or mend the folder's permissions."
        ) from error
    after = store.shards()
    found = {"shards_before": len(before), "shards": len(after)}
    sizes = {"bytes_before": sum(shard.bytes for shard in before), "bytes": sum(shard.bytes for shard in after)}
    return _tell(found | sizes, as_json=as_json)


def _prune(store: DiskStore, arguments: argparse.Namespace) -> int:
    if arguments.max_gib is None or arguments.max_gib < 0.0:
        raise ConfigError("tutelage cache prune needs the size that may stay: --max-gib SIZE, at least 0.")
    freed = store.prune(int(arguments.max_gib * 2**30))
    return _tell({"freed_bytes": freed, "bytes": sum(shard.bytes for shard in store.shards())}, as_json=arguments.json)


def _stats(store: DiskStore) -> dict[str, Any]:
    shards, known = store.shards(), known_teachers(store.folder)
    responses, tokens = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for shard in shards:
        try:
            columns = read_columns(shard.path, ["teacher", "request", "tokens"])
        except FileNotFoundError:  # evicted or merged meanwhile
            continue
        for teacher, request, count in zip(columns["teacher"], columns["request"], columns["tokens"], strict=True):
            responses[teacher, request] += 1
            tokens[teacher, request] += count
    size, total = sum(shard.bytes for shard in shards), sum(tokens.values())
    return {
        "folder": str(store.folder),
        "shards": len(shards),
        "bytes": size,
        "responses": sum(responses.values()),
        "tokens": total,
        "bytes_per_token": round(size / total, 1) if total else None,
        "teachers": [
            {
                "fingerprint": teacher,
                "model": known[teacher].model if teacher in known else None,
                "request": request,
                "responses": responses[teacher, request],
                "tokens": tokens[teacher, request],
            }
            for teacher, request in sorted(responses)
        ],
    }


def _tell(found: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        rows = value if isinstance(value, list | tuple) else [value]
        for row in rows:
            shown = ", ".join(f"{key} {one}" for key, one in row.items()) if isinstance(row, dict) else row
            print(f"{name.replace('_', ' '):<16} {shown}")
    return 0


def _show(done: int, total: int) -> None:
    print(f"\rscored {done} of {total} prompts", end="" if done < total else "\n", file=sys.stderr, flush=True)
