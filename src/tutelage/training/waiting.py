"""Responses that wait for their step, as a checkpoint holds them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tutelage.errors import CheckpointError
from tutelage.rollouts.sample import Prompt
from tutelage.training.lessons import Written
from tutelage.types import Rollout

_FIELDS = ("group", "response_ids", "authors", "behaviour_log_probs", "finish", "text", "policy_step", "turns")
"""What prompt and example do not say."""


def as_values(waiting: Sequence[Written]) -> list[dict[str, Any]]:
    """Plain values and tensors, step by step."""
    return [{"step": each.step, "rollouts": [_values(rollout) for rollout in each.rollouts]} for each in waiting]


def from_values(state: Sequence[Mapping[str, Any]], *, prompts: Callable[[int], list[Prompt]]) -> list[Written]:
    """What `as_values` held; their prompts are those of the steps again.

    Raises:
        CheckpointError: A response belongs to a prompt that its step does not have.
    """
    return [
        Written(step=each["step"], rollouts=_rollouts(each["rollouts"], prompts(each["step"]), each["step"]), seconds=0.0)
        for each in state
    ]


def _values(rollout: Rollout) -> dict[str, Any]:
    return {"example": rollout.example.id, **{name: getattr(rollout, name) for name in _FIELDS}}


def _rollouts(state: Sequence[Mapping[str, Any]], prompts: Sequence[Prompt], step: int) -> list[Rollout]:
    known = {prompt.example.id: prompt for prompt in prompts}
    if missing := sorted({values["example"] for values in state} - known.keys()):
        raise CheckpointError(
            f"The checkpoint holds responses to {', '.join(missing[:3])} for step {step + 1}, which has other prompts now. "
            "Continue with the data, the seed and the prompts per step that the run was started with."
        )
    return [
        Rollout(
            example=known[values["example"]].example,
            prompt_ids=known[values["example"]].token_ids,
            **{name: values[name] for name in _FIELDS},
        )
        for values in state
    ]
