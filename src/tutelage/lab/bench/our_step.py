"""Our side of a bench of steps: the parts of a run, and its loop, halted between steps."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import final

from tutelage.data import DataSource
from tutelage.lab.bench.channel import Channel
from tutelage.lab.bench.inputs import LEARNING_RATE, PROMPTS, STUDENT, TEACHER, planned_lengths
from tutelage.lab.bench.meter import Meter
from tutelage.lab.bench.settings import StepBench
from tutelage.models import ModelSource
from tutelage.recipes.white_box import gkd
from tutelage.rollouts.sample import Prompt, RolloutWriter
from tutelage.rollouts.sampler import CachedSampler, Sample
from tutelage.rollouts.sources import Sampling
from tutelage.run.assembly import Assembled, assemble
from tutelage.run.config import RunConfig
from tutelage.run.writing import sampling_precision
from tutelage.training import loop
from tutelage.training.loop import Parts, StepRecord
from tutelage.training.measuring import groups, padded_tokens
from tutelage.training.settings import CheckpointSettings, OptimiserSettings, TrainingSettings


@final
class PlannedSampler:
    """Writes responses of planned lengths: the bound of each prompt is its plan, and no token ends a response before."""

    def __init__(self, sampler: CachedSampler, settings: StepBench) -> None:
        self._sampler, self._settings, self._step = sampler, settings, 0

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        max_new_tokens: Sequence[int] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`; one call is one step."""
        lengths = planned_lengths(self._settings, self._step)
        self._step += 1
        return self._sampler.sample(prompts, sampling, seed=seed, max_new_tokens=lengths)


@final
class _Halts:
    """Waits between steps and reports each one: the loop's `should_stop` and its recorder."""

    def __init__(self, settings: StepBench, channel: Channel) -> None:
        self._settings, self._channel, self._meter = settings, channel, Meter()

    def __call__(self) -> bool:
        self._channel.wait()
        self._meter.start()
        return False

    def wants_statistics(self, step: int) -> bool:
        """As the bench was asked to."""
        return self._settings.statistics

    def record(self, record: StepRecord) -> None:
        """Report a step."""
        reading = self._meter.stop()
        written = [len(rollout.response_ids) for rollout in record.rollouts]
        assert written == planned_lengths(self._settings, record.step - 1), "a response missed its planned length"
        self._channel.send(
            asdict(reading) | {"tokens": sum(written), "useful_share": self._useful_share(record), "phases": record.seconds}
        )

    def _useful_share(self, record: StepRecord) -> float:
        batch = record.taught.batch
        found = groups(batch, budget_tokens=self._settings.microbatch_tokens)
        return sum(len(rollout.prompt_ids) + len(rollout.response_ids) for rollout in batch.rollouts) / padded_tokens(
            batch, found
        )


def serve(settings: StepBench, folder: str, channel: Channel) -> None:
    """Take one step whenever asked, and report time, memory and what it went on."""
    assembled = assemble(_config(settings, Path(folder)))
    halts = _Halts(settings, channel)
    parts = _parts(settings, assembled, halts, Path(folder))
    channel.send({"ready": "ours"})
    loop.train(parts, start=0, num_steps=settings.pairs + 2, should_stop=halts)  # the end of the input comes before the last


def _config(settings: StepBench, folder: Path) -> RunConfig:
    return RunConfig(
        recipe=gkd(str(folder / TEACHER), beta=1.0, student_fraction=1.0, max_new_tokens=max(settings.lengths())),
        student=ModelSource(path=str(folder / STUDENT)),
        data=DataSource(path=str(folder / PROMPTS)),
        optimiser=OptimiserSettings(learning_rate=LEARNING_RATE, warmup_steps=0, decay="constant"),
        training=TrainingSettings(
            num_steps=settings.pairs + 2,
            prompts_per_step=settings.responses,
            microbatch_tokens=settings.microbatch_tokens,
            precision=settings.dtype,
            head_precision="bfloat16" if settings.dtype == "bfloat16" else "auto",
            head_chunk_mib=settings.chunk_mib,
        ),
        seed=settings.seed,
        device="cpu",
    )


def _parts(settings: StepBench, assembled: Assembled, halts: _Halts, folder: Path) -> Parts:
    config = _config(settings, folder)
    sampler = CachedSampler(
        assembled.student,
        vocab=assembled.report.vocab,
        stop_token_ids=frozenset(),
        autocast=sampling_precision(assembled.learner),
    )

    def prompts(step: int) -> list[Prompt]:
        start = step * settings.responses
        return list(assembled.prompts[start : start + settings.responses])

    return Parts(
        student=assembled.student,
        prompts=prompts,
        writer=RolloutWriter(
            config.recipe.rollouts, student=PlannedSampler(sampler, settings), text=assembled.text, seed=settings.seed
        ),
        verifier=assembled.verifier,
        teaching=assembled.teaching,
        controllers={},
        learner=assembled.learner,
        recorder=halts,
        evaluate=lambda step: None,
        checkpoints=folder / "checkpoints",
        checkpointing=CheckpointSettings(every=0),
        seed=settings.seed,
    )
