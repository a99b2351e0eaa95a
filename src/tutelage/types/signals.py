"""What a teacher said about the tokens of a step: one of four shapes, all aligned with a StepBatch's rows."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from tutelage.types.head import Head

Capability = Literal["full", "top_k", "sampled", "hidden", "spans"]
"""`full`: any entry of the vocabulary. `top_k`: the likeliest entries and the sampled token. `sampled`: the sampled token.
`hidden`: the states that enter its head. `spans`: what passages of the response are worth."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FullSignal:
    """A whole distribution per row, kept as hidden states and a head so that no [row, vocab] tensor is ever stored."""

    hidden: Float[Tensor, "row width"]
    head: Head

    provides = frozenset[Capability]({"full", "top_k", "sampled", "hidden"})

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "FullSignal":
        """The same signal on some of the rows."""
        return FullSignal(hidden=self.hidden[rows], head=self.head)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TopKSignal:
    """The teacher's `top` likeliest entries per row, in nats at temperature 1, with the sampled token beside them."""

    ids: Int[Tensor, "row top"]
    log_probs: Float[Tensor, "row top"]
    sampled: Float[Tensor, " row"]

    provides = frozenset[Capability]({"top_k", "sampled"})

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "TopKSignal":
        """The same signal on some of the rows."""
        return TopKSignal(ids=self.ids[rows], log_probs=self.log_probs[rows], sampled=self.sampled[rows])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampledSignal:
    """The teacher's log-probability of each row's own token, in nats at temperature 1."""

    sampled: Float[Tensor, " row"]

    provides = frozenset[Capability]({"sampled"})

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "SampledSignal":
        """The same signal on some of the rows."""
        return SampledSignal(sampled=self.sampled[rows])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpanSignal:
    """What passages of the responses are worth, token by token: from teachers that judge text and score no tokens."""

    weight: Float[Tensor, " row"]
    """Of the span that the row's token lies in; zero outside of all spans."""
    length: Float[Tensor, " row"]
    """Number of rows in that span; zero outside of all spans."""

    provides = frozenset[Capability]({"spans"})

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "SpanSignal":
        """The same signal on some of the rows."""
        return SpanSignal(weight=self.weight[rows], length=self.length[rows])


TeacherSignal = FullSignal | TopKSignal | SampledSignal | SpanSignal
