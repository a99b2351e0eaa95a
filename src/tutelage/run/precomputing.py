"""Scores for the cache before there is a run: every response that the run will train on, asked of the teacher once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tutelage.errors import ConfigError
from tutelage.run.assembly import assemble, prompt_order
from tutelage.run.config import RunConfig
from tutelage.run.earlier import kept_responses, require_all
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


def precompute(
    config: RunConfig,
    *,
    responses_of: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Precomputed:
    """Write, or take from the data, the responses of a run whose responses are fixed, and have its teachers score them.

    The run itself, with the same settings and `--scores.mode offline`, then finds every score and loads no teacher.

    Args:
        config: The run, with its score cache.
        responses_of: Folder of an earlier run that wrote the same responses and keeps them; they are not written again.
        progress: Called with the prompts that are done and all of them.

    Raises:
        ConfigError: The run has no cache; or its responses depend on how the student moves, or are not the earlier run's.
        CacheError: The scores could not be kept.
        TutelageError: Whatever would have stopped the run before its first step.
    """
    scores = config.scores
    if scores is None:
        raise ConfigError("Name the folder of the score cache: --scores.folder FOLDER.")
    kept = None if responses_of is None else kept_responses(responses_of, config)
    check_fixed(config.recipe, "tutelage cache precompute")
    started = time.perf_counter()
    config = replace(config, scores=replace(scores, mode="online"), evaluation_data=None)
    run = assemble(config)
    for teacher in run.teaching.teachers.values():
        if isinstance(teacher, Cached):
            teacher.must_keep()
    if kept is not None:
        require_all(kept, [prompt.example.id for prompt in run.prompts])
        run.writer.load_state_dict(kept)
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
