"""Time and memory of the fused head against the bare matrix products that it cannot do without.

One thread. Prints JSON, or writes it with `--out`:

    python benchmarks/head.py --out benchmarks/results/head.json
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from tutelage import objectives as o
from tutelage.objectives.fused import Budget
from tutelage.types import Author, Example, FullSignal, Head, Rollout, StepBatch

SHAPES = ((151_936, 512, 512), (151_936, 512, 1024), (512, 2048, 128))
ROWS_FOR_MEMORY = (256, 512, 1024)
SIGNALS: dict[str, o.Term] = {
    "reverse_kl": o.Term(name="loss", signal=o.ReverseKL()),
    "forward_kl": o.Term(name="loss", signal=o.ForwardKL()),
    "jensen_shannon": o.Term(name="loss", signal=o.JensenShannon()),
    "score_function": o.Term(name="loss", signal=o.ScoreFunction()),
    "score_function_with_baseline": o.Term(
        name="loss", signal=o.ScoreFunction(advantage=o.LogRatio(baseline=o.StudentKLBaseline()))
    ),
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


def seconds(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least processor time of each work after one warm-up, all in turn so that what else the machine does meets all alike."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(1 + repeats):
        for name, work in works.items():
            start = time.process_time()
            work()
            taken[name].append(time.process_time() - start)
    return {name: min(values[1:]) for name, values in taken.items()}


def peak_mib(work: Callable[[], object]) -> float | None:
    """Highest resident memory during the work above what was resident before it; Linux only."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None
    before = int(status.read_text().split("VmRSS:")[1].split()[0])
    reset.write_text("5")
    work()
    return (int(status.read_text().split("VmHWM:")[1].split()[0]) - before) / 1024


class Case:
    """One shape: random student and teacher, and what is timed on them."""

    def __init__(self, vocab: int, rows: int, width: int, *, budget: Budget) -> None:
        torch.manual_seed(0)
        self.budget, self.batch = budget, step(rows, vocab)
        self.hidden = torch.randn(rows, width)
        self.weight = torch.nn.Parameter(4.0 * torch.randn(vocab, width) / width**0.5)
        self.teacher = FullSignal(
            hidden=self.hidden + 0.3 * torch.randn(rows, width), head=Head(weight=self.weight.detach().clone())
        )

    def bare(self) -> Callable[[], None]:
        """The four products, into memory that is there already."""
        logits, weight = torch.empty(len(self.hidden), len(self.weight)), self.weight.detach()
        to_hidden, to_weight = torch.empty_like(self.hidden), torch.empty_like(weight)

        def products() -> None:
            torch.mm(self.teacher.hidden, self.teacher.head.weight.T, out=logits)
            torch.mm(self.hidden, weight.T, out=logits)
            torch.mm(logits, weight, out=to_hidden)
            torch.mm(logits.T, self.hidden, out=to_weight)

        return products

    def fused(self, term: o.Term, *, described: bool = False) -> None:
        """The whole objective: plan, loss, both gradients."""
        self.weight.grad = None
        found = o.evaluate(
            o.plan([term], self.batch),
            self.batch,
            hidden=self.hidden.clone().requires_grad_(),
            head=Head(weight=self.weight),
            teachers={"teacher": self.teacher},
            budget=self.budget,
            statistics=described,
        )
        found.loss.backward()


def times(vocab: int, rows: int, width: int, *, repeats: int, budget: Budget) -> dict[str, object]:
    """Figures of one shape."""
    case = Case(vocab, rows, width, budget=budget)
    works: dict[str, Callable[[], None]] = {"four_products": case.bare()}
    works |= {name: partial(case.fused, term) for name, term in SIGNALS.items()}
    works["reverse_kl_and_statistics"] = partial(case.fused, SIGNALS["reverse_kl"], described=True)
    found = seconds(works, repeats)
    products = found.pop("four_products")
    return {
        "vocab": vocab,
        "rows": rows,
        "width": width,
        "four_products_seconds": products,
        "fused_seconds": found,
        "fused_over_products": {name: value / products for name, value in found.items()},
    }


def memory(rows: int, *, vocab: int = 151_936, width: int = 512, budget: Budget) -> dict[str, object]:
    """Peak of one evaluation, the gradient of the head's weight included."""
    case = Case(vocab, rows, width, budget=budget)
    work = partial(case.fused, SIGNALS["reverse_kl"], described=True)
    return {
        "vocab": vocab,
        "rows": rows,
        "width": width,
        "logits_of_one_side_mib": rows * vocab * 4 / 2**20,
        "weight_gradient_mib": vocab * width * 4 / 2**20,
        "peak_above_inputs_mib": peak_mib(work),
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
        "memory": [memory(rows, budget=budget) for rows in ROWS_FOR_MEMORY],
        "times": [times(*shape, repeats=arguments.repeats, budget=budget) for shape in arguments.shape or SHAPES],
    }
    text = json.dumps(report, indent=2) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
