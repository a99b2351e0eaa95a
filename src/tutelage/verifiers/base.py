"""What every verifier does."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tutelage.types import Rollout, Verdict


@runtime_checkable
class Verifier(Protocol):
    """Says of responses whether they are right. It reads their text and their examples, never the model."""

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """One verdict per rollout, in their order.

        Raises:
            VerifierError: The verifier failed; the message names it and the example.
        """
        ...


NOT_APPLICABLE = Verdict()
"""Neither right nor wrong: the example has nothing to compare with, or nobody was asked."""


def verdict(correct: bool, *, feedback: str | None = None) -> Verdict:
    """Reward 1 for a right response, 0 for a wrong one."""
    return Verdict(reward=float(correct), correct=correct, feedback=feedback)
