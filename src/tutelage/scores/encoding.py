"""How a response's scores are written down: fixed-point log-probabilities that keep what lies outside of them exact.

The `k` likeliest entries of a token are sorted, rounded to steps of 2**-10 nats and stored as differences from one to the next,
which are small, never negative, and compress. Beside them stands the mass of everything else, as fixed-point log-odds; decoding
scales the entries so that they leave exactly this mass. Without that a teacher that is sure of itself would be given a tail of
a thousandth, thousands of times its own, and a divergence with a tail event would teach it.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Float, Float32, Int, Int16, Int32, UInt16

STEP_NATS = 2.0**-10
"""Spacing of stored log-probabilities and log-odds."""
ERROR_NATS = 1.5 * STEP_NATS
"""Bound on the error of a decoded log-probability, and of the log-odds of the tail: half a step each from the entry's own
rounding, from that of the others (through the scaling) and from that of the tail."""
LOWEST_NATS = -65534 * STEP_NATS
"""Entries that are less likely than this, about 1.6e-28, come back as this likely."""

_IMPOSSIBLE = 65535
"""Steps that stand for an entry of probability zero."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Entry:
    """What is kept of one teacher's scores of one response, encoded; parts that were not asked for are empty."""

    teacher: str
    """Fingerprint of whose scores they are."""
    request: str
    """Name of what was asked."""
    tokens: int
    """Tokens that were scored."""
    sampled: Float32[np.ndarray, " written"] = field(default_factory=partial(np.empty, 0, dtype=np.float32))
    """Log-probability of each written token in nats, as it was."""
    ids: Int32[np.ndarray, "kept top"] = field(default_factory=partial(np.empty, (0, 0), dtype=np.int32))
    """Likeliest entries, likeliest first."""
    drops: UInt16[np.ndarray, "kept top"] = field(default_factory=partial(np.empty, (0, 0), dtype=np.uint16))
    """Steps from one entry's log-probability down to the next; the first counts from zero."""
    tail: Int16[np.ndarray, " kept"] = field(default_factory=partial(np.empty, 0, dtype=np.int16))
    """Log-odds of everything outside of the entries, in steps."""
    hidden: bytes = b""
    """States that enter the head, as they were, token by token."""
    hidden_dtype: str = ""
    """Type of their numbers, such as `bfloat16`."""


def encode_top(
    ids: Int[np.ndarray, "token top"], log_probs: Float[np.ndarray, "token top"]
) -> tuple[Int32[np.ndarray, "token top"], UInt16[np.ndarray, "token top"], Int16[np.ndarray, " token"]]:
    """The likeliest entries of some tokens as `Entry` holds them.

    Args:
        ids: Of the entries, in any order.
        log_probs: In nats, at most a rounding error above zero; -inf is kept as it is.

    Returns:
        Ids and drops, likeliest first, and the tail.
    """
    order = np.argsort(-log_probs, axis=-1, kind="stable")
    ids, exact = np.take_along_axis(ids, order, -1), np.take_along_axis(log_probs, order, -1).astype(np.float64)
    possible = np.isfinite(exact)
    clipped = np.clip(np.where(possible, exact, 0.0), LOWEST_NATS, 0.0)
    steps = np.where(possible, np.rint(-clipped / STEP_NATS), _IMPOSSIBLE).astype(np.int64)
    drops = np.diff(steps, axis=-1, prepend=0).astype(np.uint16)
    with np.errstate(divide="ignore"):
        mass = np.exp(exact).sum(axis=-1)
        odds = np.log(np.clip(1.0 - mass, 0.0, None)) - np.log(mass)
    bound = np.iinfo(np.int16).max
    tail = np.rint(np.clip(odds / STEP_NATS, -bound, bound)).astype(np.int16)
    return ids.astype(np.int32), drops, tail


def decode_top(drops: UInt16[np.ndarray, "token top"], tail: Int16[np.ndarray, " token"]) -> Float32[np.ndarray, "token top"]:
    """Log-probabilities in nats, each within `ERROR_NATS` of what was encoded."""
    steps = np.cumsum(drops, axis=-1, dtype=np.int64)
    rounded = np.where(steps < _IMPOSSIBLE, -STEP_NATS * steps, -np.inf)
    mass = np.exp(rounded).sum(axis=-1)
    kept = -np.logaddexp(0.0, tail * STEP_NATS)  # log of one minus the tail
    shift = np.where(mass > 0.0, kept - np.log(np.where(mass > 0.0, mass, 1.0)), 0.0)
    return (rounded + shift[:, None]).astype(np.float32)
