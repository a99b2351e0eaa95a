"""The score cache: bytes per token and their error, an epoch over kept scores against one with the teacher, and merging.

    python benchmarks/score_cache.py [--parts size epoch merging] [--rounds 3] [--data-folder DATA]
        [--output benchmarks/results/score_cache.json]

Bytes are those of the shard, checksums and footers included. Ids of a large vocabulary are drawn evenly (the worst case) and
as often as they occur in real word problems (Qwen3's tokenizer); one row is a pretrained model on text of its kind.

The epoch trains the same student on the same responses with the same updates, once with the teacher in process and once
offline; every other round in reverse order. Seconds are those that the processor worked, which other programs on the machine
hardly lengthen. Loading models and filling the cache are not part of an epoch and are given beside it.

Merging: one small shard for each step of a run, before and after; a reader that knows none of them looks everything up. Parts
that are not asked for stay in the file as they were.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from tutelage.data import DataSource
from tutelage.lab.tiny_models import Shape, count_parameters, make_model, make_tokenizer
from tutelage.models import ModelSource, load
from tutelage.objectives import ForwardKL, Term, TopK
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import DatasetRollouts
from tutelage.run.assembly import Assembled, assemble, prompt_order
from tutelage.run.config import RunConfig
from tutelage.run.measuring import Ruler
from tutelage.run.precomputing import precompute
from tutelage.scores import ERROR_NATS, DiskStore, Entry, ScoreCache, decode_top, encode_top
from tutelage.scores.shards import decode, encode
from tutelage.teachers.parts import ModelTeacher
from tutelage.tracking.environment import describe
from tutelage.training.settings import OptimiserSettings, TrainingSettings
from tutelage.training.teaching import Teaching
from tutelage.types import StepBatch

PARTS = ("size", "epoch", "merging")
TOP, RESPONSES, TOKENS = 32, 16, 128
STEPS, STEP_RESPONSES, STEP_TOKENS = 32, 4, 32
PROMPTS, RESPONSE_TOKENS, BATCH = 64, 40, 8
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 .,:;+-*/=()"
TEACHER = Shape(hidden=384, layers=8, heads=6, kv_heads=6, head_dim=64, intermediate=1536, initial_std=0.06)
STUDENT = Shape(hidden=32, layers=2)


def kept(ids: np.ndarray, log_probs: np.ndarray, name: str) -> dict[str, Any]:
    """A row: what a shard of these scores takes, and how far what comes back is from what went in."""
    content = encode(entries_of(ids, log_probs, tokens=TOKENS))
    found = np.concatenate([decode_top(entry.drops, entry.tail) for entry in decode(content).values()])
    exact = -np.sort(-log_probs, axis=-1)
    return {
        "scores": name,
        "k": TOP,
        "tokens": RESPONSES * TOKENS,
        "bytes_per_token": len(content) / (RESPONSES * TOKENS),
        "largest_error_nats": float(np.abs(found - exact).max()),
    }


def entries_of(ids: np.ndarray, log_probs: np.ndarray, *, tokens: int) -> dict[bytes, Entry]:
    """Responses of so many tokens each, by their place."""
    entries = dict[bytes, Entry]()
    for place in range(len(ids) // tokens):
        rows = slice(place * tokens, (place + 1) * tokens)
        ordered, drops, tail = encode_top(ids[rows], log_probs[rows])
        sampled = log_probs[rows][:, 0].astype(np.float32)
        entries[place.to_bytes(16, "big")] = Entry(
            teacher="0" * 32, request=f"top_k-{TOP}", tokens=tokens, sampled=sampled, ids=ordered, drops=drops, tail=tail
        )
    return entries


def large_vocabulary(data: Path) -> list[dict[str, Any]]:
    """Rows for the ids of a vocabulary of 151,669 entries."""
    generator, count = np.random.default_rng(0), RESPONSES * TOKENS
    written, vocab = _written(data)
    log_probs = _likeliest(generator, count, vocab)
    evenly = np.stack([generator.choice(vocab, TOP, replace=False) for _ in range(count)])
    as_written = np.stack([_distinct(generator, written) for _ in range(count)])
    return [
        kept(evenly, log_probs, f"{vocab:,} ids, drawn evenly"),
        kept(as_written, log_probs, f"{vocab:,} ids, as often as in word problems"),
    ]


def pretrained(data: Path) -> dict[str, Any]:
    """A row for a model that was trained, on stories that it wrote."""
    model = load(ModelSource(path=str(data / "models" / "stories260K")), role="teacher")
    text = (data / "models" / "stories260K" / "samples_t1.jsonl").read_text().splitlines()
    stories = [model.tokenizer(json.loads(row)["text"])["input_ids"][: TOKENS + 1] for row in text]
    whole = [story for story in stories if len(story) == TOKENS + 1][:RESPONSES]
    ids = torch.tensor(whole)
    with torch.no_grad():
        logits = model.model(ids).logits[:, :-1].double().log_softmax(-1)
    top = logits.topk(TOP, dim=-1)
    return kept(
        top.indices.flatten(0, 1).numpy(),
        top.values.flatten(0, 1).numpy(),
        f"{model.vocab_size} ids, stories260K on its own stories",
    )


def merging(data: Path, rounds: int) -> dict[str, Any]:
    """Shards of a run's steps, each for itself and merged."""
    generator, count = np.random.default_rng(1), STEPS * STEP_RESPONSES * STEP_TOKENS
    written, vocab = _written(data)
    ids = np.stack([_distinct(generator, written) for _ in range(count)])
    entries = entries_of(ids, _likeliest(generator, count, vocab), tokens=STEP_TOKENS)
    keys = list(entries)
    with tempfile.TemporaryDirectory() as folder:
        store = DiskStore(folder, max_bytes=1 << 34)
        for step in range(STEPS):
            store.put({key: entries[key] for key in keys[step * STEP_RESPONSES : (step + 1) * STEP_RESPONSES]})
        before = _looked_up(folder, keys, rounds)
        merged = time.process_time()
        store.merge()
        merged = time.process_time() - merged
        after = _looked_up(folder, keys, rounds)
    return {
        "environment": describe(seeds={"draws": 1}),
        "responses_per_step": STEP_RESPONSES,
        "tokens": count,
        "k": TOP,
        "merge_cpu_seconds": merged,
        "before": before,
        "after": after,
    }


def _looked_up(folder: str, keys: Sequence[bytes], rounds: int) -> dict[str, Any]:
    """Size of a cache, and what a reader needs who knows nothing of it and looks everything up."""
    seconds = list[float]()
    for _ in range(1 + rounds):  # the first does not count
        started, reader = time.process_time(), DiskStore(folder, max_bytes=1 << 34)
        found = reader.get(keys)
        seconds.append(time.process_time() - started)
    tokens, shards = sum(entry.tokens for entry in found.values()), reader.shards()
    size = sum(shard.bytes for shard in shards)
    return {"shards": len(shards), "bytes_per_token": size / tokens, "look_up_cpu_seconds": spread(seconds[1:])}


def _written(data: Path) -> tuple[np.ndarray, int]:
    """Ids of real word problems, and the size of their vocabulary."""
    tokenizer = _tokenizer(data / "tokenizers" / "qwen3")
    problems = (data / "gsm8k" / "test.jsonl").read_text().splitlines()[:400]
    return np.concatenate([tokenizer(json.loads(row)["question"])["input_ids"] for row in problems]), len(tokenizer)


def _likeliest(generator: np.random.Generator, count: int, vocab: int) -> np.ndarray:
    log_probs = np.empty((count, TOP))
    for row in range(count):  # one at a time: a whole table would take gigabytes
        logits = 3.0 * generator.standard_normal(vocab)
        log_probs[row] = np.sort(np.partition(logits, -TOP)[-TOP:])[::-1] - np.log(np.exp(logits).sum())
    return log_probs


def _distinct(generator: np.random.Generator, written: np.ndarray) -> np.ndarray:
    drawn = np.unique(generator.choice(written, 6 * TOP))
    return generator.permutation(drawn)[:TOP]


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def configuration(folder: Path) -> RunConfig:
    """A student that learns its teacher's 32 likeliest entries on given responses, with models made on the spot."""
    tokenizer, draws = make_tokenizer(ALPHABET), random.Random(0)
    teacher = make_model(folder / "teacher", tokenizer=tokenizer, shape=TEACHER, seed=1)
    student = make_model(folder / "student", tokenizer=tokenizer, shape=STUDENT, seed=2)
    texts = ["".join(draws.choices(ALPHABET, k=8 + RESPONSE_TOKENS - 1)) for _ in range(PROMPTS)]
    rows = [{"id": str(place), "prompt": text[:8], "response": text[8:]} for place, text in enumerate(texts)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunConfig(
        recipe=Recipe(
            name="top_k",
            rollouts=DatasetRollouts(max_tokens=RESPONSE_TOKENS),
            teacher=ModelTeacher(model=str(teacher)),
            terms=(Term(name="divergence", signal=ForwardKL(support=TopK(k=TOP)), on=("dataset",)),),
        ),
        student=ModelSource(path=str(student)),
        data=DataSource(path=str(folder / "data.jsonl")),
        training=TrainingSettings(num_steps=PROMPTS // BATCH, prompts_per_step=BATCH),
        optimiser=OptimiserSettings(learning_rate=1e-2, warmup_steps=0),
        scores=ScoreCache(folder=str(folder / "scores"), k=TOP),
    )


def epoch(run: Assembled, config: RunConfig) -> dict[str, float]:
    """Processor seconds of an epoch's phases."""
    spent = dict.fromkeys(("scoring", "whole"), 0.0)
    order, started = prompt_order(config, run), time.process_time()
    for step in range(config.training.num_steps):
        batch = StepBatch.of(run.writer.write(order(step), step=step), seed=config.seed, step=step)
        before = time.process_time()
        taught = run.teaching.score(batch)
        spent["scoring"] += time.process_time() - before
        run.learner.update(taught.batch, taught.signals, step=step)
    return spent | {"whole": time.process_time() - started}


def distance(run: Assembled, teacher: Teaching) -> float:
    """Forward KL of the student to the whole teacher on the responses, in nats per token."""
    ruler = Ruler(run.student, teacher, vocab=run.report.vocab, microbatch_tokens=2048, chunk_mib=64)
    found = ruler(run.writer.write(run.prompts[:16], step=0)).mean("forward_kl_nats")
    assert found is not None
    return found


def epochs(rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        online = replace(configuration(folder), scores=None)
        scores = ScoreCache(folder=str(folder / "scores"), k=TOP)
        filled = time.process_time()
        counted = precompute(replace(online, scores=scores))
        filled = time.process_time() - filled
        configs = {"online": online, "offline": replace(online, scores=replace(scores, mode="offline"))}
        taken: dict[str, list[Mapping[str, float]]] = {name: [] for name in configs}
        distances: dict[str, list[float]] = {"before": [], **{name: [] for name in configs}}
        for number in range(1 + rounds):  # the first does not count
            runs = {name: assemble(configs[name]) for name in (configs if number % 2 else reversed(configs))}
            whole = runs["online"].teaching
            if number == 0:
                distances["before"].append(distance(runs["online"], whole))
            for name, run in runs.items():
                taken[name].append(epoch(run, configs[name]))
                distances[name].append(distance(run, whole))
        size = sum(path.stat().st_size for path in (folder / "scores").rglob("*.parquet"))
        ratio = [slow["whole"] / fast["whole"] for slow, fast in zip(taken["online"], taken["offline"], strict=True)]
        return {
            "teacher_parameters": count_parameters(folder / "teacher"),
            "student_parameters": count_parameters(folder / "student"),
            "updates": online.training.num_steps,
            "responses": counted.responses,
            "tokens": counted.tokens,
            "bytes_per_token": size / counted.tokens,
            "fill_cpu_seconds": filled,
            "cpu_seconds": {name: spread([one["whole"] for one in values[1:]]) for name, values in taken.items()},
            "scoring_cpu_seconds": {name: spread([one["scoring"] for one in values[1:]]) for name, values in taken.items()},
            "online_over_offline": spread(ratio[1:]),
            "forward_kl_nats": {name: spread(values) for name, values in distances.items()},
        }


def spread(values: Sequence[float]) -> list[float]:
    """Median, least, largest."""
    return [median(values), min(values), max(values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-folder", type=Path, default=os.environ.get("TUTELAGE_DATA"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "score_cache.json")
    arguments = parser.parse_args()
    if arguments.data_folder is None:
        parser.error("give --data-folder or set TUTELAGE_DATA: the folder that holds models, tokenizers and gsm8k")
    torch.set_num_threads(1)
    data, parts = Path(arguments.data_folder), set[str](arguments.parts)
    found: dict[str, Any] = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    if {"size", "epoch"} <= parts:
        found |= {"threads": 1, "rounds": arguments.rounds, "stated_error_nats": ERROR_NATS}
        found |= {"environment": describe(seeds={"draws": 0})}
    if "size" in parts:
        found["runs"] = [*large_vocabulary(data), pretrained(data)]
    if "epoch" in parts:
        found["epoch"] = epochs(arguments.rounds)
    if "merging" in parts:
        found["merging"] = merging(data, arguments.rounds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
