"""A run folder as a run of 300 steps would have left it, made from formulas."""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tutelage.tracking import RunFolder, Tracker
from tutelage.tracking.report import write_report
from tutelage.tracking.rollout_table import RolloutRecord, write_table

CONFIG = {
    "recipe": {
        "name": "opd",
        "rollouts": {"kind": "student", "sampling": {"n": 4, "temperature": 1.0, "max_new_tokens": 64}},
        "teacher": {"kind": "model", "model": "models/chain-teacher", "context": {"kind": "none"}},
        "terms": [{"name": "kl", "signal": {"kind": "reverse_kl"}, "scale": 1.0}],
    },
    "student": {"path": "models/chain-student", "dtype": "auto", "lora": None},
    "data": {"path": "prompts.jsonl", "limit": 128},
    "optimiser": {"learning_rate": 1e-3, "warmup_steps": 20, "decay": "cosine"},
    "training": {"num_steps": 300, "prompts_per_step": 32},
    "output": "runs/opd",
    "seed": 0,
}
ENVIRONMENT = {"tutelage": "0.1.0", "python": "3.11.9", "packages": {"torch": "2.13.0"}, "seeds": {"run": 0}}


def synthetic_run(path: Path, *, steps: int = 300, best: float = 0.78, seed: int = 0, recipe: str = "opd") -> RunFolder:
    """A run whose accuracy tends to `best` and whose divergences fall; tables at the first, a middle and the last step."""
    draw = random.Random(seed)
    config = {**CONFIG, "recipe": {**CONFIG["recipe"], "name": recipe}, "seed": seed, "output": str(path)}
    folder = RunFolder.create(path, config=config, environment=ENVIRONMENT)
    tracker = Tracker(folder)
    for step in range(steps + 1):
        if step:
            tracker.log(step, _train(step, best, draw))
        if step % 50 == 0:
            metrics, intervals = _eval(step, best)
            tracker.log(step, metrics, kind="eval", intervals=intervals)
    tracker.close()
    for step in (1, steps // 2, steps):
        write_table(folder.rollout_file(step), [_record(step, group, draw) for group in range(32) for _ in range(2)])
    return folder


def _progress(step: int) -> float:
    return 1.0 - math.exp(-step / 90)


def _train(step: int, best: float, draw: random.Random) -> dict[str, float]:
    done = _progress(step)
    reverse = 0.62 - 0.5 * best * done + draw.gauss(0, 0.02)
    return {
        "train/loss_nats": reverse,
        "train/gradient_norm": 0.4 + abs(draw.gauss(0, 0.1)),
        "train/learning_rate": 1e-3 * min(step / 20, 0.5 + 0.5 * math.cos(math.pi * step / 300)),
        "train/tokens": 2900.0,
        "train/tokens_per_second": 5100.0 + draw.gauss(0, 200),
        "train/seconds_per_step": 0.57,
        "signal/reverse_kl_nats": reverse,
        "signal/forward_kl_nats": 0.7 - 0.4 * done + draw.gauss(0, 0.02),
        "signal/student_entropy_nats": 0.5 - 0.25 * done + draw.gauss(0, 0.01),
        "signal/teacher_entropy_nats": 0.21 + draw.gauss(0, 0.01),
        "signal/sampler_gap_nats": 2e-6,
        "rollout/length_tokens": 22 + 2 * done + draw.gauss(0, 0.3),
        "rollout/truncated_fraction": max(0.08 * (1 - done) + draw.gauss(0, 0.005), 0),
        "rollout/repetition_fraction": 0.01,
        "rollout/accuracy_fraction": min(0.42 + (best - 0.45) * done + draw.gauss(0, 0.03), 1.0),
        "term/kl/loss_nats": reverse,
        "term/kl/weight_fraction": 1.0,
        "time/sampling_seconds": 0.31,
        "time/scoring_seconds": 0.04,
        "time/update_seconds": 0.22,
    }


def _eval(step: int, best: float) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    done = _progress(step)
    accuracy, reverse = 0.47 + (best - 0.47) * done, 0.6 - 0.5 * best * done
    metrics = {
        "eval/greedy_accuracy_fraction": accuracy,
        "eval/avg_at_k_fraction": accuracy - 0.05,
        "eval/reverse_kl_nats": reverse,
        "eval/forward_kl_nats": 0.68 - 0.4 * done,
        "eval/truncated_fraction": 0.07 * (1 - done),
        "eval/mean_length_tokens": 22.5 + 2 * done,
        "eval/student_entropy_nats": 0.49 - 0.25 * done,
    }
    intervals = {
        "eval/greedy_accuracy_fraction": (accuracy - 0.06, accuracy + 0.055),
        "eval/avg_at_k_fraction": (accuracy - 0.09, accuracy - 0.01),
        "eval/reverse_kl_nats": (reverse - 0.03, reverse + 0.03),
        "eval/forward_kl_nats": (0.65 - 0.4 * done, 0.71 - 0.4 * done),
        "eval/truncated_fraction": (max(0.06 * (1 - done) - 0.02, 0), 0.07 * (1 - done) + 0.03),
    }
    return metrics, intervals


def _record(step: int, group: int, draw: random.Random) -> RolloutRecord:
    operands = [draw.randrange(10) for _ in range(draw.randrange(3, 7))]
    signs = [draw.choice("+-*") for _ in operands[1:]]
    prompt = "".join(f"{number}{sign}" for number, sign in zip(operands, [*signs, "="], strict=True))
    value, right = operands[0], draw.random() < (0.45 if step == 1 else 0.8)
    pieces: list[str] = []
    for sign, number in zip(signs, operands[1:], strict=True):
        result = {"+": value + number, "-": value - number, "*": value * number}[sign] % 10
        pieces += [str(value), sign, str(number), "=", str(result), ";"]
        value = result
    answer = value
    if not right:
        pieces[-2] = value = (value + draw.randrange(1, 10)) % 10
        pieces[-2] = str(pieces[-2])
    pieces.append("<eos>")
    hard = [piece.isdigit() and place % 6 == 4 for place, piece in enumerate(pieces)]
    gap = [draw.expovariate(1.0 / ((0.9 if is_hard else 0.03) * (1.0 if step == 1 else 0.35))) for is_hard in hard]
    if not right:
        gap[-3] = 3.5
    student = [-0.1 - 0.4 * draw.random() for _ in pieces]
    return plain_record(
        pieces,
        step=step,
        group=group,
        prompt=prompt,
        student_log_probs=student,
        teacher_log_probs=[ours - difference for ours, difference in zip(student, gap, strict=True)],
        behaviour_log_probs=student,
        reverse_kl_nats=gap,
        weights=[1.0] * len(pieces),
        reward=float(right),
        correct=right,
        answer=str(answer),
    )


def plain_record(tokens: Sequence[str], **given: object) -> RolloutRecord:
    """A record with these tokens; what is not given has a plain default."""
    defaults: dict[str, object] = {
        "step": 1,
        "group": 0,
        "example_id": f"chain:{given.get('group', 0)}",
        "prompt": "1+1=",
        "response": "".join(tokens),
        "finish": "stop",
        "token_ids": list(range(len(tokens))),
        "tokens": list(tokens),
        "authors": ["student"] * len(tokens),
    }
    return RolloutRecord(**{**defaults, **given})  # type: ignore[arg-type]


@pytest.fixture
def record() -> Callable[..., RolloutRecord]:
    """Makes records out of tokens."""
    return plain_record


@pytest.fixture
def make_run() -> Callable[..., RunFolder]:
    """Makes run folders."""
    return synthetic_run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for tests that only read it."""
    return synthetic_run(tmp_path_factory.mktemp("runs") / "opd").path


class Page(HTMLParser):
    """A report, taken apart as a browser would."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._within: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count it."""
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._within.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave it."""
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Tell code from text."""
        if "script" in self._within:
            self.scripts[-1] += data
        elif "style" not in self._within:
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader sees."""
        return "".join(self.words)

    @property
    def figures(self) -> dict[str, Any]:
        """The plots by the element that they are drawn into."""
        return json.loads(self.scripts[0])


@pytest.fixture
def report() -> Callable[..., Page]:
    """Writes the report of a run and reads it."""
    return lambda path, **given: Page(write_report(path, **given).read_text("utf-8"))


@pytest.fixture(scope="session")
def read_page() -> type[Page]:
    """Takes markup apart."""
    return Page
