"""Evaluations during a run: when they are due, on which prompts, against which teacher."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import final

from tutelage.evaluation import EvaluationResult, EvaluationSettings, evaluate
from tutelage.rollouts import Prompt, RolloutWriter, Sampler, Text
from tutelage.rollouts.sources import Sampling
from tutelage.run.measuring import Ruler
from tutelage.run.recording import Gauged
from tutelage.types import Rollout
from tutelage.verifiers import Verifier


@final
class Evaluator:
    """Evaluates the student whenever it is due and hands the result on."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        *,
        sampler: Sampler,
        text: Text,
        verifier: Verifier,
        settings: EvaluationSettings,
        ruler: Ruler | None,
        teacher_texts: Sequence[Rollout],
        seed: int,
        write: Callable[[Sampling], RolloutWriter] | None = None,
    ) -> None:
        """Keep what an evaluation needs.

        Args:
            prompts: Held-out prompts.
            sampler: Of the student.
            text: Between ids and text.
            verifier: Says what is right.
            settings: How much, and when.
            ruler: Measures the student against its teacher, where there is one.
            teacher_texts: The data's own responses to held-out prompts, for the forward KL on given text.
            seed: The same for every evaluation of a run, so that steps can be compared.
            write: From how tokens are drawn to who writes, where the student does not write alone.
        """
        self._prompts, self._sampler, self._text, self._verifier = prompts, sampler, text, verifier
        self._settings, self._ruler, self._teacher_texts, self._seed = settings, ruler, teacher_texts, seed
        self._write = write

    def due(self, step: int, *, num_steps: int) -> bool:
        """Whether a run of `num_steps` is evaluated after `step` steps."""
        return self._settings.due(step, num_steps=num_steps)

    def __call__(self, step: int) -> EvaluationResult:
        """Evaluate the student as it is now; with what its verifier has to tell, such as what a judge used."""
        found = evaluate(
            self._prompts,
            sampler=self._sampler,
            decode=self._text.decode,
            verifier=self._verifier,
            settings=self._settings,
            seed=self._seed,
            step=step,
            score=self._ruler,
            teacher_texts=self._teacher_texts,
            write=None if self._write is None else partial(_written, self._write, step=step),
        )
        used = self._verifier.figures() if isinstance(self._verifier, Gauged) else {}
        return replace(found, metrics={**found.metrics, **used})


def _written(
    write: Callable[[Sampling], RolloutWriter], prompts: Sequence[Prompt], sampling: Sampling, *, step: int
) -> list[Rollout]:
    """Drawn as in step 0, so that steps can be compared."""
    return [replace(rollout, policy_step=step) for rollout in write(sampling).write(prompts, step=0)]


Report = Callable[[int, EvaluationResult], None]
"""Takes the step and what was found."""
