"""Verdicts by a user's function with the signature of TRL's reward functions."""

import asyncio
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from tutelage.errors import VerifierError, nearest
from tutelage.types import Rollout, Verdict
from tutelage.types.functions import named_function
from tutelage.verifiers.base import NOT_APPLICABLE
from tutelage.verifiers.parts import FunctionVerifier

_COLUMNS = ("id", "answer", "solution", "privileged_context", "teacher_id", "response")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerState:
    """What a function learns of the run."""

    global_step: int
    """Optimiser steps that the writer of the completions had taken."""


@final
class UserFunctionVerifier:
    """Calls the function once for all rollouts."""

    def __init__(self, part: FunctionVerifier) -> None:
        self._part = part
        self._function = named_function(part.path, role="verifier")

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """The function's rewards as verdicts; None becomes not applicable, and a verdict stays what it is."""
        if not rollouts:
            return []
        try:
            rewards = self._call(rollouts)
        except VerifierError:
            raise
        except Exception as error:
            raise VerifierError(self._says(error, self._culprit(rollouts))) from error
        return [self._verdict(reward, rollout) for reward, rollout in zip(rewards, rollouts, strict=True)]

    def _call(self, rollouts: Sequence[Rollout]) -> list[Any]:
        rewards = self._function(**self._arguments(rollouts))
        if inspect.iscoroutine(rewards):
            rewards = asyncio.run(rewards)
        try:
            found = list(rewards)
        except TypeError:
            found = None
        if found is None or isinstance(rewards, str | Mapping) or len(found) != len(rollouts):
            what = type(rewards).__name__ if found is None or isinstance(rewards, str | Mapping) else f"{len(found)} values"
            raise VerifierError(
                f"{self._part.path} returned {what} for {len(rollouts)} completions (the first is of example "
                f"{rollouts[0].example.id!r}). Return a list with one number, verdict or None per completion."
            )
        return found

    def _arguments(self, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        offered = _offered(rollouts)
        parameters = inspect.signature(self._function).parameters
        lacking = [
            name
            for name, parameter in parameters.items()
            if name not in offered
            and parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ]
        if lacking:
            raise VerifierError(
                f"{self._part.path} takes {lacking[0]!r}{nearest(lacking[0], offered)}, which example "
                f"{rollouts[0].example.id!r} does not have. It can take {', '.join(offered)}; "
                "map columns with `data.columns`, or give it a default."
            )
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return offered
        return {name: value for name, value in offered.items() if name in parameters}

    def _culprit(self, rollouts: Sequence[Rollout]) -> Rollout | None:
        """The first rollout that the function cannot take alone; None if it can take each."""
        for rollout in rollouts:
            try:
                self._call([rollout])
            except Exception:  # whatever it is: the first error is what will be reported
                return rollout
        return None

    def _says(self, error: Exception, culprit: Rollout | None) -> str:
        where = "on these completions together, though on none of them alone"
        if culprit is not None:
            where = f"on example {culprit.example.id!r}, response {culprit.text[:80]!r}"
        return (
            f"{self._part.path} raised {type(error).__name__}: {error} ({where}). A verifier reads what an untrained model "
            "wrote: let it return 0.0 for what it cannot read, or None where it does not apply."
        )

    def _verdict(self, reward: Any, rollout: Rollout) -> Verdict:
        if reward is None:
            return NOT_APPLICABLE
        if isinstance(reward, Verdict):
            return self._checked(reward, rollout)
        try:
            value = float(reward)
        except (TypeError, ValueError):
            value = math.nan
        if isinstance(reward, str) or not math.isfinite(value):
            raise self._unusable(reward, rollout)
        return Verdict(reward=value, correct=value >= self._part.correct_from)

    def _checked(self, given: Verdict, rollout: Rollout) -> Verdict:
        """A verdict that the function made itself; one that leaves `correct` open is decided by its reward."""
        if given.reward is None:
            return given
        if not math.isfinite(given.reward):
            raise self._unusable(given, rollout)
        return given if given.correct is not None else replace(given, correct=given.reward >= self._part.correct_from)

    def _unusable(self, reward: Any, rollout: Rollout) -> VerifierError:
        return VerifierError(
            f"{self._part.path} returned {reward!r} for example {rollout.example.id!r}: a reward is a finite number, a verdict "
            "with such a reward, or None where the function does not apply."
        )


def _offered(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    examples = [rollout.example for rollout in rollouts]
    extra = dict.fromkeys(column for example in examples for column in example.extra)
    columns = {column: [example.extra.get(column) for example in examples] for column in extra}
    for column in _COLUMNS:  # under their canonical names, also where the source has another column of that name
        values = [getattr(example, column) for example in examples]
        if any(value is not None for value in values):
            columns[column] = values
    return {
        **columns,
        "prompts": [_plain(example.prompt) for example in examples],
        "completions": [_completion(rollout) for rollout in rollouts],
        "completion_ids": [rollout.response_ids.tolist() for rollout in rollouts],
        "trainer_state": TrainerState(global_step=max(rollout.policy_step for rollout in rollouts)),
    }


def _plain(prompt: str | tuple[Mapping[str, Any], ...]) -> str | list[dict[str, Any]]:
    return prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt]


def _completion(rollout: Rollout) -> str | list[dict[str, str]]:
    if isinstance(rollout.example.prompt, str):
        return rollout.text
    return [{"role": "assistant", "content": rollout.text}]
