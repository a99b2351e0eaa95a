"""The fused head on a CUDA device, beside TRL's kernel and Liger's, at the shapes of real heads.

    python benchmarks/gpu.py [--rows 2048 8192 32768] [--repeats 5] [--out FILE]

One process; the sides take turns, every other round in the opposite order, and the first round is not counted. TRL and Liger
take part where they are installed. Exit code 3: there is no CUDA device.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tutelage.lab.bench.head import Case
from tutelage.lab.bench.settings import HeadBench
from tutelage.lab.bench.tables import aligned
from tutelage.tracking.environment import describe

NO_DEVICE = 3
SHAPES = {"Qwen3-0.6B from Qwen3-1.7B": (1024, 2048), "Qwen3-1.7B from itself": (2048, 2048)}
"""Widths of student and teacher; both families have 151,936 ids."""
SIGNALS = ("reverse_kl", "jensen_shannon")
Work = Callable[[], object]


def liger(case: Case) -> Callable[[], None]:
    """Liger's fused linear Jensen-Shannon divergence; at beta 0.5 it does not matter whose share beta is."""
    loss = import_module("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.5
    )
    labels = torch.zeros(len(case.hidden), dtype=torch.long, device=case.hidden.device)

    def run() -> None:
        loss(case.hidden, case.weight, case.teacher_hidden, case.teacher_weight, labels, None, None).backward()

    return run


def works(case: Case) -> dict[str, Work]:
    """Everything that is timed at one shape."""
    found: dict[str, Work] = {"four products": case.products()}
    for signal in SIGNALS:
        found[f"ours, {signal}"] = lambda signal=signal: case.ours(signal)
        if find_spec("trl") is not None:
            found[f"TRL, {signal}"] = lambda signal=signal: case.peers(signal)
    if find_spec("liger_kernel") is not None:
        found["Liger, jensen_shannon"] = liger(case)
    return found


def measure(case: Case, *, repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of each repetition and extra memory of each work."""
    timed = works(case)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    memory: dict[str, float] = {}
    for turn in range(1 + repeats):
        for name in order(timed, backwards=turn % 2 == 1):
            taken, memory[name] = once(case, timed[name])
            if turn:
                seconds[name].append(taken)
    return {name: {"seconds": seconds[name], "extra_mib": memory[name]} for name in timed}


def order(names: Iterable[str], *, backwards: bool) -> list[str]:
    return list(names)[::-1] if backwards else list(names)


def once(case: Case, work: Work) -> tuple[float, float]:
    """Seconds by the device's clock and the highest memory above what was taken before, in MiB."""
    case.clear()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000.0, (torch.cuda.max_memory_allocated() - before) / 2**20


def tera_operations(settings: HeadBench) -> float:
    """Of the four products, in 10^12."""
    return 2.0 * settings.rows * settings.vocab * (3 * settings.width + settings.teacher_width) / 1e12


def shape(name: str, settings: HeadBench, *, repeats: int) -> dict[str, Any]:
    torch.cuda.empty_cache()
    found = measure(Case(settings, device="cuda"), repeats=repeats)
    operations = tera_operations(settings)
    plain = operations / median(found["four products"]["seconds"])
    lines = [[f"{name}, {settings.rows:,} rows", "ms", "TFLOP/s", "of the plain products", "extra MiB"]]
    for work, figures in found.items():
        taken = median(figures["seconds"])
        figures["tflops"] = operations / taken
        lines.append(
            [
                work,
                f"{1000 * taken:.2f}",
                f"{operations / taken:.0f}",
                f"{operations / taken / plain:.0%}",
                f"{figures['extra_mib']:.0f}",
            ]
        )
    print("\n".join(aligned(lines)) + "\n", flush=True)
    return {"shape": name, "settings": asdict(settings), "works": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 8192, 32_768])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chunk-mib", type=int, default=2048)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "error: PyTorch sees no CUDA device here, so there is nothing to measure. The CPU: tutelage bench head.",
            file=sys.stderr,
        )
        return NO_DEVICE
    found = [
        shape(
            name,
            HeadBench(
                rows=rows, width=width, teacher_width=theirs, dtype="bfloat16", signals=SIGNALS, chunk_mib=arguments.chunk_mib
            ),
            repeats=arguments.repeats,
        )
        for name, (width, theirs) in SHAPES.items()
        for rows in arguments.rows
    ]
    if arguments.out:
        arguments.out.write_text(json.dumps({"environment": describe(seeds={"inputs": 0}), "shapes": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
