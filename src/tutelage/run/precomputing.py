"""Scores for the cache before there is a run: every response that the run will train on, asked of the teacher once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tutelage.errors import ConfigError
from tutelage.run.assembly import assemble, prompt_order
from tutelage.run.config import RunConfig
from tutelage.run.keeping import check_fixed
from tutelage.teachers import Cached
from tutelage.types import StepBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Precomputed:
    """What was done."""

    folder: str
    """Of the cache."""
    responses: int
    tokens: int
    """Tokens that carry scores."""
    untaught: int
    """Responses that no teacher could teach; in the run they count as they would with the teacher."""
    seconds: float


def precompute(config: RunConfig, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Precomputed:
    """Write, or take from the data, the responses of a run whose responses are fixed, and have its teachers score them.

    The run itself, with the same settings and `--scores.mode offline`, then finds every score and loads no teacher.

    Args:
        config: The run, with its score cache.
        progress: Called with the prompts that are done and all of them.

    Raises:
        ConfigError: The run has no cache, or its responses depend on how the student moves.
        CacheError: The scores could not be kept.
        TutelageError: Whatever would have stopped the run before its first step.
    """
    scores = config.scores
    if scores is None:
        raise ConfigError("Name the folder of the score cache: --scores.folder FOLDER.")
    check_fixed(config.recipe, "tutelage cache precompute")
    started = time.perf_counter()
    config = replace(config, scores=replace(scores, mode="online"), evaluation_data=None)
    run = assemble(config)
    for teacher in run.teaching.teachers.values():
        if isinstance(teacher, Cached):
            teacher.must_keep()
    order, done = prompt_order(config, run), set[str]()
    step = responses = tokens = untaught = 0
    while len(done) < len(run.prompts):  # in the run's own order, which decides the draws of what is written ahead
        prompts = [prompt for prompt in order(step) if prompt.example.id not in done]
        rollouts = run.writer.write(prompts, step=0)
        batch = StepBatch.of(rollouts, run.verifier.judge(rollouts)).to(run.student.device)
        taught = run.teaching.score(batch).batch
        responses += len(rollouts)
        tokens += taught.num_rows
        untaught += len(rollouts) - len(taught.rollout.unique())
        done |= {prompt.example.id for prompt in prompts}
        step += 1
        progress(len(done), len(run.prompts))
    return Precomputed(
        folder=scores.folder,
        responses=responses,
        tokens=tokens,
        untaught=untaught,
        seconds=time.perf_counter() - started,
    )
