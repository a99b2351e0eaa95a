"""Write responses to held-out prompts, have them judged and measured, and say what came out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from tutelage.errors import ConfigError, DataError
from tutelage.evaluation.metrics import Interval
from tutelage.evaluation.settings import EvaluationSettings
from tutelage.evaluation.summary import Measurement, PromptValues, Score, Summary, accuracy, description, token_mean
from tutelage.rollouts.sample import Prompt
from tutelage.rollouts.sampler import Sample, Sampler
from tutelage.rollouts.sources import Sampling
from tutelage.types import Author, Rollout, Verdict
from tutelage.verifiers import Verifier

ByExample = dict[str, tuple[float, float]]
"""Id of a held-out example -> its value, and its weight in the mean."""

Write = Callable[[Sequence[Prompt], Sampling], list[Rollout]]
"""Responses of the student; those of one prompt share a group, the prompt's place."""

_TEACHER_TEXT = "eval/teacher_text_forward_kl_nats"
_STATISTICS = ("reverse_kl_nats", "forward_kl_nats", "student_entropy_nats")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """Responses, and what the verifier said of each."""

    rollouts: tuple[Rollout, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EvaluationResult:
    """What an evaluation found."""

    metrics: dict[str, float]
    """Names from the registry; a number that nobody could tell is left out."""
    intervals: dict[str, Interval]
    """95 % intervals of those metrics that are means over prompts."""
    greedy: Judged | None
    sampled: Judged | None
    prompts: dict[str, ByExample] = field(default_factory=dict[str, ByExample])
    """What each metric that has an interval is the weighted mean of."""
    written: Judged | None = None
    """One response to each of the first prompts, the greedy one where there is one, to be written down token by token."""
    measured: Measurement | None = None
    """Of `written`; None where nothing measures."""

    @property
    def described(self) -> Judged:
        """The responses whose length, repetition and divergences are reported: the sampled ones, else the greedy ones."""
        found = self.sampled or self.greedy
        assert found is not None  # the settings see to it
        return found

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        """The rollouts of `described`."""
        return self.described.rollouts


def evaluate(
    prompts: Sequence[Prompt],
    *,
    sampler: Sampler,
    decode: Callable[[list[int]], str],
    verifier: Verifier,
    settings: EvaluationSettings,
    seed: int,
    step: int = 0,
    score: Score | None = None,
    teacher_texts: Sequence[Rollout] = (),
    write: Write | None = None,
) -> EvaluationResult:
    """Evaluate a student on held-out prompts. The same seed draws the same numbers, so two students can be compared.

    Args:
        prompts: Rendered; the first `settings.num_prompts` are used.
        sampler: Of the student.
        decode: Ids to text for the verifier.
        verifier: Says what is right.
        settings: With `max_new_tokens` filled in.
        seed: Of the sampling and of the intervals.
        step: Optimiser steps that the student has taken.
        score: Measures divergences and entropy on the responses; without it they are left out.
        teacher_texts: Responses that the teacher wrote, for the forward KL on its own text; needs `score`.
        write: How the student writes where it does not write alone, as with an environment; then `sampler` is not asked.

    Returns:
        Metrics, intervals, and the responses.

    Raises:
        DataError: There is no prompt.
        VerifierError: The verifier failed.
    """
    prompts = prompts[: settings.num_prompts or None]
    if not prompts:
        raise DataError("There is no prompt to evaluate on. Check the evaluation data and its filters.")
    write = write or _Alone(sampler=sampler, decode=decode, seed=seed, step=step)

    def answer(sampling: Sampling) -> Judged:
        rollouts = write(prompts, sampling)
        return Judged(rollouts=tuple(rollouts), verdicts=tuple(verifier.judge(rollouts)))

    length, k = _max_new_tokens(settings), settings.k or settings.samples
    greedy = sampled = None
    found = Summary()
    if settings.greedy:
        greedy = answer(Sampling(temperature=0.0, max_new_tokens=length))
        found |= accuracy(greedy.rollouts, greedy.verdicts, k=None, seed=seed)
    if settings.samples:
        sampled = answer(
            Sampling(n=settings.samples, temperature=settings.temperature, top_p=settings.top_p, max_new_tokens=length)
        )
        found |= accuracy(sampled.rollouts, sampled.verdicts, k=k, seed=seed)
    result = EvaluationResult(metrics=found.metrics, intervals=found.intervals, greedy=greedy, sampled=sampled)
    found |= _describe(result.rollouts, score, teacher_texts, seed=seed)
    written = _one_each(greedy or result.described, settings.written)
    ids = {group: prompt.example.id for group, prompt in enumerate(prompts)}
    given = {rollout.group: rollout.example.id for rollout in teacher_texts}
    return replace(
        result,
        metrics=found.metrics,
        intervals=found.intervals,
        prompts={name: _by_example(of, given if name == _TEACHER_TEXT else ids) for name, of in found.prompts.items()},
        written=written,
        measured=score(written.rollouts) if written is not None and score is not None else None,
    )


def _by_example(found: PromptValues, ids: Mapping[int, str]) -> ByExample:
    rows = zip(found.groups, found.values, found.weights, strict=True)
    return {ids[group]: (value, weight) for group, value, weight in rows}


def _one_each(judged: Judged, most: int) -> Judged | None:
    """The first response to each of the first prompts."""
    first = {rollout.group: place for place, rollout in reversed(list(enumerate(judged.rollouts)))}
    places = sorted(first.values())[:most]
    if not places:
        return None
    return Judged(
        rollouts=tuple(judged.rollouts[place] for place in places), verdicts=tuple(judged.verdicts[place] for place in places)
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Alone:
    sampler: Sampler
    decode: Callable[[list[int]], str]
    seed: int
    step: int

    def __call__(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Rollout]:
        groups = [group for group in range(len(prompts)) for _ in range(sampling.n)]
        ids = [prompt.token_ids.tolist() for prompt in prompts]
        samples = self.sampler.sample([ids[group] for group in groups], sampling, seed=self.seed)
        return [self._rollout(prompts[group], group, sample) for group, sample in zip(groups, samples, strict=True)]

    def _rollout(self, prompt: Prompt, group: int, sample: Sample) -> Rollout:
        return Rollout(
            example=prompt.example,
            group=group,
            prompt_ids=prompt.token_ids,
            response_ids=sample.token_ids,
            authors=torch.full_like(sample.token_ids, Author.STUDENT),
            behaviour_log_probs=sample.log_probs,
            finish=sample.finish,
            text=self.decode(sample.token_ids.tolist()),
            policy_step=self.step,
        )


def _describe(rollouts: Sequence[Rollout], score: Score | None, teacher_texts: Sequence[Rollout], *, seed: int) -> Summary:
    found = description(rollouts, seed=seed)
    if score is None:
        return found
    measured = score(rollouts)
    for statistic in _STATISTICS:
        if statistic in measured.statistics:
            found |= token_mean(f"eval/{statistic}", measured, statistic, seed=seed)
    if teacher_texts:
        found |= token_mean(_TEACHER_TEXT, score(teacher_texts), "forward_kl_nats", seed=seed)
    return found


def _max_new_tokens(settings: EvaluationSettings) -> int:
    if settings.max_new_tokens is None:
        raise ConfigError(
            "This evaluation has no max_new_tokens, and no recipe to take it from. Set evaluation.max_new_tokens."
        )
    return settings.max_new_tokens
