"""From a reply to numbers, with a refusal of every reply that is not exactly what was asked for.

Supervision that is silently wrong is worse than none: ids are compared with those that were sent, numbers must be finite, and
whatever is missing, doubled or out of range is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, isfinite
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import ServerError

_IMPOSSIBLE = -9000.0
"""vLLM writes -9999 where a log-probability is minus infinity."""
_MASS = 1e-3
"""By so much the probabilities of some entries may add up to more than one, for rounding."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """What a model says about given tokens, at temperature 1, in nats."""

    sampled: Float[Tensor, " time"]
    """Log-probability of each token."""
    top_ids: Int[Tensor, "time top"]
    """The likeliest entries in its place, the likeliest first."""
    top_log_probs: Float[Tensor, "time top"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Completion:
    """Tokens that a model drew."""

    token_ids: Int[Tensor, " time"]
    """With the stop token, where it stopped at one."""
    log_probs: Float[Tensor, " time"]
    """As the server reports them, in nats."""
    finish: Literal["stop", "length"]


def choices_of(reply: Any, *, prompts: Sequence[Sequence[int]], model: str) -> list[Mapping[str, Any]]:
    """The answers in a reply, in the order of the prompts that they answer.

    Raises:
        ServerError: Another model answered, an answer is missing or there twice, or one belongs to another prompt.
    """
    if not isinstance(reply, dict) or not isinstance(reply.get("choices"), list):
        raise ServerError(f"The server of {model!r} sent a reply without choices: {str(reply)[:200]}. {_CHECK}")
    if reply.get("model") != model:
        raise ServerError(
            f"The model {reply.get('model')!r} answered, and {model!r} was asked: something between here and the server sends "
            "requests to several models. Ask a server that serves only this one."
        )
    found: dict[Any, Mapping[str, Any]] = {}
    for choice in reply["choices"]:
        index = choice.get("index") if isinstance(choice, dict) else None
        if index in found or index not in range(len(prompts)):
            raise ServerError(
                f"The server of {model!r} was asked about {len(prompts)} prompts and sent an answer number {index!r} "
                f"{'twice' if index in found else 'that is none of them'}. {_CHECK}"
            )
        found[index] = choice
    if missing := [index for index in range(len(prompts)) if index not in found]:
        raise ServerError(f"The server of {model!r} left {len(missing)} of {len(prompts)} prompts unanswered. {_CHECK}")
    for index, prompt in enumerate(prompts):
        if found[index].get("prompt_token_ids") != list(prompt):
            raise ServerError(
                f"Answer {index} of the server of {model!r} belongs to another prompt than was sent, or does not say to which: "
                "its prompt_token_ids differ. Use a server that returns them as they were sent (vLLM with return_token_ids)."
            )
    return [found[index] for index in range(len(prompts))]


_CHECK = "Nothing was trained on it. Check that the address is that of vLLM itself, and its version."


def scores_of(choice: Mapping[str, Any], *, prompt: Sequence[int], first: int, k: int, model: str) -> Scores:
    """What an answer says about the tokens of its prompt from `first` on.

    Args:
        choice: The answer, asked for with `prompt_logprobs`.
        prompt: All ids that were sent.
        first: Index of the first token that is asked about; at least 1, since nothing predicts the token before.
        k: Likeliest entries that were asked for.
        model: For messages.

    Raises:
        ServerError: A token or an entry has no log-probability, or one that is not finite or not possible.
    """
    said = choice.get("prompt_logprobs")
    if not isinstance(said, list) or len(said) != len(prompt):
        count = len(said) if isinstance(said, list) else "no"
        raise ServerError(f"The server of {model!r} gave {count} prompt log-probs for {len(prompt)} tokens. {_CHECK}")
    sampled, ids, log_probs = list[float](), list[list[int]](), list[list[float]]()
    for place in range(first, len(prompt)):
        entries = said[place] if isinstance(said[place], dict) else {}
        sampled.append(_log_prob(entries.get(str(prompt[place])), prompt[place], place, model))
        top = _likeliest(entries, k, place, model)
        ids.append([index for index, _ in top])
        log_probs.append([value for _, value in top])
    shape = (len(prompt) - first, k)
    return Scores(
        sampled=torch.tensor(sampled),
        top_ids=torch.tensor(ids, dtype=torch.long).reshape(shape),
        top_log_probs=torch.tensor(log_probs).reshape(shape),
    )


def completion_of(choice: Mapping[str, Any], *, limit: int, vocab: int, stops: frozenset[int], model: str) -> Completion:
    """What an answer drew.

    Args:
        choice: The answer.
        limit: Tokens that it may have at most.
        vocab: Ids that may be drawn are below.
        stops: Ids that end it.
        model: For messages.

    Raises:
        ServerError: Ids and log-probs do not belong together, are out of range, or the end is not what it is said to be.
    """
    ids, finish = choice.get("token_ids"), choice.get("finish_reason")
    values = (choice.get("logprobs") or {}).get("token_logprobs")
    if not isinstance(ids, list) or not isinstance(values, list) or len(ids) != len(values) or not 0 < len(ids) <= limit:
        raise ServerError(
            f"The server of {model!r} drew {_count(ids)} tokens with {_count(values)} log-probs, and between 1 and {limit} of "
            f"both were asked for. {_CHECK}"
        )
    if outside := [index for index in ids if not isinstance(index, int) or not 0 <= index < vocab]:
        raise ServerError(
            f"The server of {model!r} drew the token {outside[0]!r}, and the ids that may be drawn end at {vocab - 1}: it "
            "serves another model, or one with another tokenizer. Start it on the student's own folder."
        )
    log_probs = [_log_prob({"logprob": value}, ids[place], place, model) for place, value in enumerate(values)]
    ended = [place for place, index in enumerate(ids) if index in stops]
    whole = ended == [len(ids) - 1] if finish == "stop" else finish == "length" and not ended and len(ids) == limit
    if not whole:
        raise ServerError(
            f"The server of {model!r} says that a response of {len(ids)} tokens (at most {limit}) ended by {finish!r}, with "
            f"stop tokens at {ended}. A response that is cut off without a reason is trained on as if it were whole. Was the "
            "server paused or stopped in the middle? Start the step again."
        )
    return Completion(
        token_ids=torch.tensor(ids, dtype=torch.long),
        log_probs=torch.tensor(log_probs),
        finish="stop" if finish == "stop" else "length",
    )


def _log_prob(entry: Any, index: int, place: int, model: str) -> float:
    value = entry.get("logprob") if isinstance(entry, dict) else None
    if not isinstance(value, float | int) or not isfinite(value) or not _IMPOSSIBLE < value <= _MASS:
        raise ServerError(
            f"The server of {model!r} gives token {index} at position {place} the log-probability {value!r}, which is no "
            "finite number up to 0. Are the weights damaged, or does the server compute in float16? Start it with --dtype "
            "bfloat16 or float32."
        )
    return min(float(value), 0.0)


def _likeliest(entries: Mapping[str, Any], k: int, place: int, model: str) -> list[tuple[int, float]]:
    """The entries of ranks 1 to `k`; the token itself lies among them or beside them."""
    ranked = sorted(
        (entry["rank"], int(index), _log_prob(entry, int(index), place, model))
        for index, entry in entries.items()
        if isinstance(entry, dict) and isinstance(entry.get("rank"), int) and entry["rank"] <= k
    )
    falling = all(above[2] >= below[2] - 1e-6 for above, below in pairwise(ranked))
    mass = sum(exp(value) for *_, value in ranked)
    if [rank for rank, *_ in ranked] != list(range(1, k + 1)) or not falling or mass > 1.0 + _MASS:
        raise ServerError(
            f"The server of {model!r} gives the entries of ranks {[rank for rank, *_ in ranked]} at position {place}, with "
            f"probabilities that add up to {mass:.4f}; the {k} likeliest in falling order were asked for. {_CHECK}"
        )
    return [(index, value) for _, index, value in ranked]


def _count(values: Any) -> str:
    return str(len(values)) if isinstance(values, list) else "no"
