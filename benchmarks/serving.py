"""The figures of docs/serving.md, against the servers that `tests/serving/with_servers.py` starts.

    python tests/serving/with_servers.py .venv-serve/bin/python python benchmarks/serving.py

Each figure is the median of several repetitions, with the smallest and the largest.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from tutelage.models import ModelSource, load
from tutelage.rollouts.sampler_parts import ServedStudent
from tutelage.rollouts.served_copy import ServedCopy
from tutelage.rollouts.sources import Sampling
from tutelage.rollouts.synced import SyncedSampler
from tutelage.serving import VLLM, Transport
from tutelage.tracking.environment import describe

OUTPUT = Path(__file__).parent / "results" / "serving.json"
REPETITIONS = 5
SEQUENCES, TOKENS = 64, 128


def timed(what: Callable[[], object]) -> dict[str, float]:
    """Seconds of a call, after one that is not counted."""
    what()
    found = list[float]()
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        what()
        found.append(time.perf_counter() - began)
    return {"median": median(found), "lowest": min(found), "highest": max(found)}


def main() -> None:
    places = json.loads(os.environ["TUTELAGE_SERVERS"])
    draws = torch.Generator().manual_seed(0)
    sequences = torch.randint(0, 18, (SEQUENCES, TOKENS + 4), generator=draws).tolist()
    teacher = VLLM(Transport(places["teacher"]["url"]))
    model = load(ModelSource(path=places["teacher"]["folder"]), role="teacher")
    scored = teacher.score(sequences, first=[4] * SEQUENCES, k=0)
    with torch.no_grad():
        truth = model.model(torch.tensor(sequences)).logits.log_softmax(-1)[:, 3:-1]
    gaps = [
        float((one.sampled - rows.gather(-1, torch.tensor(ids[4:]).unsqueeze(-1)).squeeze(-1)).abs().max())
        for one, rows, ids in zip(scored, truth, sequences, strict=True)
    ]
    student = load(ModelSource(path=places["student"]["folder"]), role="student")
    copy = ServedCopy(ServedStudent(url=places["student"]["url"]), student, vocab=22, stop_token_ids=frozenset())
    sampler, gap = SyncedSampler(copy, student), copy.figures()["serving/sync_gap_nats"]
    prompts = [ids[:4] for ids in sequences]
    found = {
        "score_sampled_seconds": timed(lambda: teacher.score(sequences, first=[4] * SEQUENCES, k=0)),
        "score_top_20_seconds": timed(lambda: teacher.score(sequences, first=[4] * SEQUENCES, k=20)),
        "sample_seconds": timed(lambda: sampler.sample(prompts, Sampling(max_new_tokens=TOKENS), seed=0)),
        "sync_seconds": timed(lambda: copy.hand_over(student)),
    }
    result = {
        "sequences": SEQUENCES,
        "tokens": TOKENS,
        "seconds": found,
        "teacher_gap_nats": max(gaps),
        "sync_gap_nats": gap,
        "environment": describe(seeds={"bench": 0}),
    }
    OUTPUT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"seconds": found, "gaps": [max(gaps), gap]}, indent=1))


if __name__ == "__main__":
    main()
