"""Time and memory of the fused head against the bare matrix products that it cannot do without.

One thread. Prints JSON, or writes it with `--out`:

    python benchmarks/head.py --out benchmarks/results/head.json
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tutelage import objectives as o
from tutelage.objectives.fused import Budget
from tutelage.types import Author, Example, FullSignal, Head, Rollout, StepBatch

SHAPES = ((151_936, 512, 512), (151_936, 512, 1024), (151_936, 1024, 512), (512, 2048, 128))
SIGNALS: dict[str, o.Term] = {
    "reverse_kl": o.Term(name="loss", signal=o.ReverseKL()),
    "forward_kl": o.Term(name="loss", signal=o.ForwardKL()),
    "jensen_shannon": o.Term(name="loss", signal=o.JensenShannon()),
    "score_function": o.Term(name="loss", signal=o.ScoreFunction()),
    "score_function_with_baseline": o.Term(name="loss", signal=o.ScoreFunction(baseline=o.StudentKLBaseline())),
    "reverse_kl_top_64": o.Term(name="loss", signal=o.ReverseKL(support=o.TopK(k=64))),
}


def step(rows: int, vocab: int) -> StepBatch:
    """One response of random tokens."""
    ids = torch.randint(vocab, (rows,))
    rollout = Rollout(
        example=Example(id="0", prompt=""),
        group=0,
        prompt_ids=ids[:1],
        response_ids=ids,
        authors=torch.full((rows,), int(Author.STUDENT)),
        behaviour_log_probs=torch.full((rows,), -5.0),
        finish="length",
        text="",
    )
    return StepBatch.of([rollout])


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Least processor time after one warm-up: on one thread, wall time without what else the machine does."""
    work()
    taken: list[float] = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def peak_mib(work: Callable[[], object]) -> float | None:
    """Highest resident memory during the work above what was resident before it; Linux only."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None
    before = int(status.read_text().split("VmRSS:")[1].split()[0])
    reset.write_text("5")
    work()
    return (int(status.read_text().split("VmHWM:")[1].split()[0]) - before) / 1024


def measure(vocab: int, rows: int, width: int, *, repeats: int, budget: Budget) -> dict[str, object]:
    """Figures of one shape."""
    torch.manual_seed(0)
    hidden = torch.randn(rows, width)
    weight = torch.nn.Parameter(4.0 * torch.randn(vocab, width) / width**0.5)
    teacher = FullSignal(hidden=hidden + 0.3 * torch.randn(rows, width), head=Head(weight=weight.detach().clone()))
    batch = step(rows, vocab)

    buffers = [torch.empty(rows, vocab), torch.empty_like(hidden), torch.empty(vocab, width)]

    def bare() -> None:
        with torch.no_grad():
            torch.mm(teacher.hidden, teacher.head.weight.T, out=buffers[0])
            torch.mm(hidden, weight.T, out=buffers[0])
            torch.mm(buffers[0], weight, out=buffers[1])
            torch.mm(buffers[0].T, hidden, out=buffers[2])

    def fused(term: o.Term, *, described: bool = False) -> None:
        states = hidden.clone().requires_grad_()
        weight.grad = None
        plan = o.plan([term], batch)
        found = o.evaluate(
            plan,
            batch,
            hidden=states,
            head=Head(weight=weight),
            teachers={"teacher": teacher},
            budget=budget,
            statistics=described,
        )
        found.loss.backward()

    products = seconds(bare, repeats)
    buffers.clear()
    cases = {name: (lambda term=term: fused(term)) for name, term in SIGNALS.items()}
    cases["reverse_kl_and_statistics"] = lambda: fused(SIGNALS["reverse_kl"], described=True)
    times = {name: seconds(case, repeats) for name, case in cases.items()}
    return {
        "vocab": vocab,
        "rows": rows,
        "width": width,
        "four_products_seconds": products,
        "fused_seconds": times,
        "fused_over_products": {name: value / products for name, value in times.items()},
        "weight_gradient_mib": vocab * width * 4 / 2**20,
        "peak_above_inputs_mib": peak_mib(cases["reverse_kl_and_statistics"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunk-mib", type=int, default=256)
    parser.add_argument("--shape", type=int, nargs=3, action="append", metavar=("VOCAB", "ROWS", "WIDTH"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    budget = Budget(chunk_mib=arguments.chunk_mib)
    report = {
        "torch": torch.__version__.split("+")[0],
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "dtype": "float32",
        "chunk_mib": arguments.chunk_mib,
        "shapes": [measure(*shape, repeats=arguments.repeats, budget=budget) for shape in arguments.shape or SHAPES],
    }
    text = json.dumps(report, indent=2) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
