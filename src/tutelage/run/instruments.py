"""What a run offers to its controllers: gradients that are not taken, and a score on a few problems."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import final

from torch import Tensor

from tutelage import controllers
from tutelage.controllers import Controller
from tutelage.rollouts import Prompt, RolloutWriter
from tutelage.rollouts.sources import Sampling
from tutelage.run.assembly import Assembled, prompt_order
from tutelage.run.config import RunConfig
from tutelage.run.recipe_checks import response_limit, sampling_of
from tutelage.run.writing import write_alone
from tutelage.training.measuring import select
from tutelage.types import StepBatch


def build_controllers(config: RunConfig, assembled: Assembled) -> dict[str, Controller]:
    """The recipe's controllers, by name; they move the settings that the run's writer reads."""
    return controllers.build(config.recipe.controllers, RunInstruments(config, assembled))


@final
class RunInstruments:
    """See `tutelage.controllers.Instruments`."""

    def __init__(self, config: RunConfig, assembled: Assembled) -> None:
        """Nothing is computed yet."""
        self.student, self.controls = assembled.student, assembled.controls
        self.max_new_tokens = response_limit(config.recipe.rollouts)
        self._assembled, self._seed, self._source = assembled, config.seed, config.recipe.rollouts
        self._prompts: Callable[[int], list[Prompt]] = prompt_order(config, assembled)
        self._sampling = sampling_of(config.recipe.rollouts) or Sampling(max_new_tokens=self.max_new_tokens)

    def gradients(self, responses: int, *, cuts: Sequence[int], step: int) -> list[list[Tensor]]:
        """See `Instruments.gradients`. The draws are those that the step itself will make."""
        prompts = self._prompts(step)[: -(-responses // self._sampling.n)]
        rollouts = self._by_student(self._sampling).write(prompts, step=step)
        verdicts = self._assembled.verifier.judge(rollouts)
        batch = StepBatch.of(rollouts, verdicts, seed=self._seed, step=step).to(self.student.device)
        taught = self._assembled.teaching.score(batch)
        found: list[list[Tensor]] = []
        for cut in cuts:
            rows = (taught.batch.position < cut).nonzero().squeeze(-1)
            found.append(self._assembled.learner.gradient(taught.batch.select(rows), select(taught.signals, rows), step=step))
        return found

    def score(self, num_prompts: int) -> float:
        """See `Instruments.score`."""
        greedy = self._by_student(Sampling(temperature=0.0, max_new_tokens=self.max_new_tokens))
        verdicts = self._assembled.verifier.judge(greedy.write(self._assembled.prompts[:num_prompts], step=0))
        return fmean(verdict.reward or 0.0 for verdict in verdicts)

    def _by_student(self, sampling: Sampling) -> RolloutWriter:
        run = self._assembled
        return write_alone(self._source, sampling, sampler=run.sampler, text=run.text, seed=self._seed, aids=run.aids)
