"""Verdicts by comparing text, and by not asking."""

import re
from collections.abc import Sequence
from typing import final

from tutelage.types import Rollout, Verdict
from tutelage.verifiers.base import NOT_APPLICABLE, verdict
from tutelage.verifiers.parts import ExactMatch


@final
class SilentVerifier:
    """Says of every response that nothing can be said."""

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """Verdicts without reward or correctness."""
        return [NOT_APPLICABLE] * len(rollouts)


@final
class ExactMatchVerifier:
    """Compares the found answer with the example's, as text."""

    def __init__(self, part: ExactMatch) -> None:
        self._part = part
        self._pattern = None if part.pattern is None else re.compile(part.pattern)
        self._removed = str.maketrans("", "", part.remove)

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """Right or wrong; not applicable where the example has no answer."""
        return [self._verdict(rollout) for rollout in rollouts]

    def _verdict(self, rollout: Rollout) -> Verdict:
        if rollout.example.answer is None:
            return NOT_APPLICABLE
        found = self._answer_in(rollout.text)
        if found is None:
            return verdict(False, feedback=f"no answer that fits {self._part.pattern!r}")
        return verdict(self._normal(found) == self._normal(rollout.example.answer))

    def _answer_in(self, text: str) -> str | None:
        if self._pattern is None:
            return text
        matches = list(self._pattern.finditer(text))
        return (matches[-1][1 if self._pattern.groups else 0] or "") if matches else None

    def _normal(self, text: str) -> str:
        text = text.translate(self._removed)
        text = text.strip() if self._part.strip else text
        return text.casefold() if self._part.ignore_case else text
