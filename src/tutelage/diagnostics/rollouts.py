"""What a set of responses looks like: most collapses show in length, cuts and repetition first."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.types import Author, Rollout, Verdict


def repetition_fraction(token_ids: Sequence[int], *, n: int = 4) -> float:
    """Share of the n-grams that occurred earlier in the same response, in [0, 1]; 0 for responses shorter than n."""
    grams = [tuple(token_ids[i : i + n]) for i in range(len(token_ids) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def rollout_metrics(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict] = ()) -> dict[str, float]:
    """`rollout/...` metrics of some responses; accuracy and reward only where a verifier said something."""
    lengths = torch.tensor([float(len(rollout.response_ids)) for rollout in rollouts], dtype=torch.float64)
    found = {
        "rollout/length_tokens": float(lengths.mean()),
        "rollout/length_p95_tokens": _quantile(lengths, 0.95),
        "rollout/truncated_fraction": sum(rollout.finish == "length" for rollout in rollouts) / len(rollouts),
        "rollout/repetition_fraction": sum(repetition_fraction(r.response_ids.tolist()) for r in rollouts) / len(rollouts),
    }
    judged = [verdict.correct for verdict in verdicts if verdict.correct is not None]
    rewards = [verdict.reward for verdict in verdicts if verdict.reward is not None]
    if judged:
        found["rollout/accuracy_fraction"] = sum(judged) / len(judged)
    if rewards:
        found["rollout/reward"] = sum(rewards) / len(rewards)
    return found


def staleness_metrics(rollouts: Sequence[Rollout], *, steps_taken: int) -> dict[str, float]:
    """How old the responses are that the student wrote, in optimiser steps; nothing where it wrote none.

    Args:
        rollouts: Those of a step.
        steps_taken: Before that step.
    """
    ages = [float(steps_taken - rollout.policy_step) for rollout in rollouts if bool((rollout.authors == Author.STUDENT).any())]
    if not ages:
        return {}
    return {"rollout/staleness_mean_steps": sum(ages) / len(ages), "rollout/staleness_max_steps": max(ages)}


def _quantile(values: Tensor, share: float) -> float:
    return float(values.sort().values[min(int(share * len(values)), len(values) - 1)])
