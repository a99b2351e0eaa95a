"""What writing ahead of training hides, and what it costs: wall time behind a slow teacher, and accuracy by staleness.

    python benchmarks/asynchronous.py [--parts speed accuracy] [--output benchmarks/results/asynchronous.json]

Both parts train the lab's `chain` student towards its teacher by the exact reverse KL on its own responses, on one thread of
PyTorch. `speed` puts a pause into every call of the teacher, as a network does: the processor is free meanwhile. Rounds go
through the staleness values in turn, every other one backwards. `accuracy` trains each seed once per staleness and compares it
with the same seed at staleness 0 on the same held-out problems. Results that are there already are kept, so that a benchmark
that was stopped goes on.
"""

import argparse
import json
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import torch

from tutelage import recipes
from tutelage.evaluation import EvaluationSettings
from tutelage.lab import tasks
from tutelage.lab.pretrain import write_problems
from tutelage.lab.tasks import model_of, seed_of
from tutelage.models import ModelSource
from tutelage.run.api import train
from tutelage.run.assembly import Assembled, assemble, prompt_order
from tutelage.run.config import RunConfig
from tutelage.teachers import Scorer
from tutelage.teachers.scorer import Scored, TeacherReading
from tutelage.tracking.environment import describe
from tutelage.training import loop
from tutelage.training.loop import Parts, StepRecord
from tutelage.training.settings import (
    AsynchronousSettings,
    CheckpointSettings,
    LoggingSettings,
    OptimiserSettings,
    TrainingSettings,
)
from tutelage.training.teaching import Teaching
from tutelage.types import Capability, StepBatch

TASK = "chain"
TEACHER_SEED = 0
RESPONSES = 32
SPEED_STALENESS, ACCURACY_STALENESS = (0, 1, 2), (0, 1, 2, 4)
PAUSE_SECONDS, SPEED_STEPS, ROUNDS = 1.0, 10, 3
SEEDS, ACCURACY_STEPS, LEARNING_RATE = (0, 1, 2), 40, 1e-3
NUM_PROMPTS, NUM_HELD_OUT, HELD_OUT_SEED = 1024, 128, 7
PAIRED = ("eval/greedy_accuracy_fraction", "eval/reverse_kl_nats")
METRICS = (*PAIRED, "eval/mean_length_tokens", "eval/truncated_fraction")


@final
class SlowScorer:
    """A teacher behind a line: every call takes so much longer."""

    def __init__(self, whole: Scorer, *, seconds: float) -> None:
        self._whole, self._seconds = whole, seconds

    @property
    def provides(self) -> frozenset[Capability]:
        """As the teacher."""
        return self._whole.provides

    @property
    def reading(self) -> TeacherReading:
        """As the teacher."""
        return self._whole.reading

    def score(self, batch: StepBatch, *, only: Collection[int] | None = None) -> Scored:
        """As the teacher, later."""
        time.sleep(self._seconds)
        return self._whole.score(batch, only=only)

    def update(self, student: Any) -> None:
        """As the teacher."""
        self._whole.update(student)

    def state_dict(self) -> dict[str, Any]:
        """As the teacher."""
        return self._whole.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As the teacher."""
        self._whole.load_state_dict(state)


@final
class Clock:
    """Notes when each step was done, and what its stages took."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.stages: list[dict[str, float]] = []

    def wants_statistics(self, step: int) -> bool:
        """Nobody reads them."""
        return False

    def record(self, record: StepRecord) -> None:
        """Note a step."""
        self.ends.append(time.perf_counter())
        self.stages.append(dict(record.seconds))


def config(folder: Path, *, staleness: int, seed: int, num_steps: int) -> RunConfig:
    task = tasks.get(TASK)
    problems = task.problems(NUM_PROMPTS, seed=seed_of(task, "prompts", seed))
    held_out = task.problems(NUM_HELD_OUT, seed=HELD_OUT_SEED, split="held_out")
    return RunConfig(
        recipe=recipes.gkd(
            str(model_of(task, "teacher", seed=TEACHER_SEED)),
            beta=1.0,
            student_fraction=1.0,
            max_new_tokens=task.max_response_tokens,
        ),
        student=ModelSource(path=str(model_of(task, "student", seed=seed))),
        data=write_problems(folder / "prompts.jsonl", problems),
        evaluation_data=write_problems(folder / "held_out.jsonl", held_out),
        verifier=task.verifier,
        evaluation=EvaluationSettings(num_prompts=NUM_HELD_OUT, every=0, written=0, at_start=False),
        optimiser=OptimiserSettings(learning_rate=LEARNING_RATE, warmup_steps=4),
        training=TrainingSettings(num_steps=num_steps, prompts_per_step=RESPONSES),
        asynchronous=AsynchronousSettings(staleness=staleness),
        checkpoints=CheckpointSettings(every=0),
        logging=LoggingSettings(statistics_every=num_steps, rollouts_every=0),
        output=str(folder / "run"),
        seed=seed,
        device="cpu",
    )


def timed(staleness: int) -> dict[str, Any]:
    """Wall seconds of a step behind the slow teacher, and of each stage: the middle ones, start and end left out."""
    with TemporaryDirectory(prefix="tutelage-") as scratch:
        made, clock = config(Path(scratch), staleness=staleness, seed=0, num_steps=SPEED_STEPS), Clock()
        parts = _parts(made, assemble(made), clock, Path(scratch))
        loop.train(parts, start=0, num_steps=SPEED_STEPS)
    first = max(SPEED_STALENESS) + 1  # by then every pipeline is full
    stages = clock.stages[first:]
    return {
        "staleness": staleness,
        "seconds_per_step": (clock.ends[-1] - clock.ends[first - 1]) / len(stages),
        "stages": {name: sum(stage[name] for stage in stages) / len(stages) for name in stages[0]},
    }


def _parts(made: RunConfig, run: Assembled, clock: Clock, folder: Path) -> Parts:
    assert run.teacher is not None
    return Parts(
        student=run.student,
        prompts=prompt_order(made, run),
        writer=run.writer,
        verifier=run.verifier,
        teaching=Teaching(SlowScorer(run.teacher, seconds=PAUSE_SECONDS)),
        learner=run.learner,
        controllers={},
        recorder=clock,
        evaluate=lambda step: None,
        checkpoints=folder / "checkpoints",
        checkpointing=made.checkpoints,
        seed=made.seed,
        ahead=run.ahead,
    )


def learnt(staleness: int, seed: int) -> dict[str, Any]:
    """What a run came to: each metric with its interval, and the held-out problems one by one."""
    with TemporaryDirectory(prefix="tutelage-") as scratch:
        found = train(config(Path(scratch), staleness=staleness, seed=seed, num_steps=ACCURACY_STEPS)).evaluations
    after = found[ACCURACY_STEPS]
    return {
        "staleness": staleness,
        "seed": seed,
        "after": {name: [after.metrics[name], *after.intervals[name]] for name in METRICS},
        "prompts": {name: packed(after.prompts[name]) for name in PAIRED},
    }


def packed(values: Mapping[str, tuple[float, float]]) -> str:
    """Value and weight of each held-out problem, in the order of their names: what paired intervals are made of."""
    return " ".join(f"{value:.4g}:{weight:g}" for _, (value, weight) in sorted(values.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("speed", "accuracy"), default=("speed", "accuracy"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "asynchronous.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    result |= {"settings": settings(), "environment": describe(seeds={})}

    def keep(part: str, row: dict[str, Any]) -> None:
        result.setdefault(part, []).append(row)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
        print(part, {name: value for name, value in row.items() if name != "prompts"}, flush=True)

    if "speed" in arguments.parts:
        for number in range(len(result.get("speed", [])) // len(SPEED_STALENESS), ROUNDS):
            for staleness in SPEED_STALENESS if number % 2 else reversed(SPEED_STALENESS):
                keep("speed", timed(staleness))
    if "accuracy" in arguments.parts:
        done = {(row["staleness"], row["seed"]) for row in result.get("accuracy", [])}
        for seed in SEEDS:
            for staleness in ACCURACY_STALENESS:
                if (staleness, seed) not in done:
                    keep("accuracy", learnt(staleness, seed))


def settings() -> dict[str, Any]:
    """What was measured, for whoever reads the file."""
    return {
        "task": TASK,
        "responses": RESPONSES,
        "seeds": SEEDS,
        "learning_rate": LEARNING_RATE,
        "pause_seconds": PAUSE_SECONDS,
        "speed_steps": SPEED_STEPS,
        "accuracy_steps": ACCURACY_STEPS,
        "held_out": NUM_HELD_OUT,
    }


if __name__ == "__main__":
    main()
