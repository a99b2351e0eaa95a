"""Time to write responses on a CPU: the package's sampler beside transformers' `generate` and `generate_batch`.

    python benchmarks/sampling.py [--rounds 5] [--data-folder DATA] [--output benchmarks/results/sampling.json]

Same pretrained model, same prompts, same number of new tokens (nothing stops early), one thread. Each round runs every engine
once, every other round in reverse order, after one round that does not count. Seconds are those that the processor worked,
which other programs on the machine hardly lengthen; a factor compares two engines within a round.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from tutelage.models import LanguageModel, ModelSource, load
from tutelage.rollouts import CachedSampler
from tutelage.rollouts.sources import Sampling
from tutelage.tracking.environment import describe

Prompts = Sequence[Sequence[int]]
Engine = Callable[[LanguageModel, Prompts, int], None]
PAGE_TOKENS = 256


def cached_sampler(model: LanguageModel, prompts: Prompts, num_tokens: int) -> None:
    sampler = CachedSampler(model, vocab=model.vocab_size, stop_token_ids=frozenset())
    found = sampler.sample(prompts, Sampling(max_new_tokens=num_tokens), seed=0)
    _require([len(one.token_ids) for one in found], len(prompts), num_tokens)


def generate(model: LanguageModel, prompts: Prompts, num_tokens: int) -> None:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=num_tokens, pad_token_id=0, eos_token_id=-1)
    found = cast(Any, model.model).generate(ids, attention_mask=mask, generation_config=settings)
    _require([len(row) - width for row in found], len(prompts), num_tokens)


def generate_batch(model: LanguageModel, prompts: Prompts, num_tokens: int) -> None:
    longest = max(map(len, prompts)) + num_tokens
    bounds = ContinuousBatchingConfig(  # unbounded, it takes nearly all the memory of the machine for its cache
        page_size=PAGE_TOKENS,
        num_blocks=len(prompts) * -(-longest // PAGE_TOKENS),
        max_batch_tokens=sum(map(len, prompts)),
        max_requests_per_batch=len(prompts),
    )
    settings = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=num_tokens, pad_token_id=0, eos_token_id=-1)
    found = cast(Any, model.model).generate_batch(
        [list(prompt) for prompt in prompts], generation_config=settings, continuous_batching_config=bounds, progress_bar=False
    )
    _require([len(one.generated_tokens) for one in found.values()], len(prompts), num_tokens)


def _require(lengths: Sequence[int], count: int, num_tokens: int) -> None:
    if list(lengths) != [num_tokens] * count:
        raise RuntimeError(f"Responses of {sorted(set(lengths))} tokens, expected {count} of {num_tokens}: nothing to compare.")


def seconds(works: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each work, one value per round."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(1 + rounds):
        for name in list(works) if number % 2 else reversed(works):
            start = time.process_time()
            works[name]()
            taken[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in taken.items()}


def measure(
    source: ModelSource, prompts: Prompts, num_tokens: int, engines: Sequence[Engine], *, rounds: int
) -> list[dict[str, Any]]:
    """One entry per engine; each has a model of its own, because `generate_batch` exchanges the attention of its model."""
    works = {engine.__name__: partial(engine, load(source, role="teacher"), prompts, num_tokens) for engine in engines}
    taken = seconds(works, rounds)
    ours = taken[cached_sampler.__name__]
    return [
        {
            "engine": name,
            "prompts": len(prompts),
            "new_tokens": num_tokens,
            "cpu_seconds": spread(values),
            "over_cached_sampler": spread([value / own for value, own in zip(values, ours, strict=True)]),
        }
        for name, values in taken.items()
    ]


def spread(values: Sequence[float]) -> list[float]:
    """Median, least, largest."""
    return [median(values), min(values), max(values)]


def first_sentences(folder: Path, source: ModelSource, count: int) -> list[list[int]]:
    """Prompts: how the model's own stories begin."""
    tokenizer = load(source, role="teacher").tokenizer
    rows = (folder / "samples_t1.jsonl").read_text().splitlines()[:count]
    return [tokenizer(json.loads(row)["text"].split(".")[0] + ".")["input_ids"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-folder", type=Path, default=os.environ.get("TUTELAGE_DATA"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sampling.json")
    arguments = parser.parse_args()
    if arguments.data_folder is None:
        parser.error("give --data-folder or set TUTELAGE_DATA: the folder that holds models/stories260K")
    torch.set_num_threads(1)
    folder = Path(arguments.data_folder) / "models" / "stories260K"
    source = ModelSource(path=str(folder))
    prompts = first_sentences(folder, source, 64)
    engines = [cached_sampler, generate, generate_batch]
    runs = [
        run
        for num_prompts, num_tokens in ((16, 32), (64, 64))
        for run in measure(source, prompts[:num_prompts], num_tokens, engines, rounds=arguments.rounds)
    ]
    found = {
        "threads": 1,
        "rounds": arguments.rounds,
        "model": folder.name,
        "environment": describe(seeds={"sampling": 0}),
        "runs": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
