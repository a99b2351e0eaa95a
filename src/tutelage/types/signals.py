"""What a teacher said about the tokens of a step: one of six shapes, all aligned with a StepBatch's rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
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


@runtime_checkable
class Composition(Protocol):
    """How several distributions become one."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the distributions it composes, apart from the student's."""
        ...

    def __call__(
        self, parts: Mapping[str, Float[Tensor, "row vocab"]], *, student: Float[Tensor, "row vocab"]
    ) -> Float[Tensor, "row vocab"]:
        """Normalised log-probabilities from those of the parts and of the student, all detached."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ComposedSignal:
    """Several whole distributions and what one teacher they make: products, mixtures, blends with the student."""

    parts: Mapping[str, FullSignal]
    """By the names that the composition uses."""
    composition: Composition

    provides = frozenset[Capability]({"full", "top_k", "sampled"})

    def __post_init__(self) -> None:
        if set(self.parts) != set(self.composition.parts):
            raise ConfigError(
                f"The composition names {sorted(self.composition.parts)}, but {sorted(self.parts)} are given. "
                "Give exactly one whole distribution for each name."
            )

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "ComposedSignal":
        """The same signal on some of the rows."""
        parts = {name: part.select(rows) for name, part in self.parts.items()}
        return ComposedSignal(parts=parts, composition=self.composition)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RoutedSignal:
    """Several whole distributions, each of which speaks for some of the rows: experts by domain."""

    parts: tuple[FullSignal, ...]
    """Aligned with the rows; what one says on another's rows is never read. Widths and heads may differ."""
    which: Int[Tensor, " row"]
    """Index into `parts`: who speaks for the row."""

    provides = frozenset[Capability]({"full", "top_k", "sampled"})

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "RoutedSignal":
        """The same signal on some of the rows."""
        return RoutedSignal(parts=tuple(part.select(rows) for part in self.parts), which=self.which[rows])


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


TeacherSignal = FullSignal | ComposedSignal | RoutedSignal | TopKSignal | SampledSignal | SpanSignal
