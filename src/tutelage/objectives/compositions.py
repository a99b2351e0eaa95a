"""Ways to make one teacher out of several distributions, as values that a recipe can name."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Literal, final

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.math import compositions

Table = Float[Tensor, "row vocab"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ProductOfTeachers:
    """Normalised geometric mean: what several reverse-KL teachers act as; the agreement of all."""

    kind: Literal["product"] = "product"
    parts: tuple[str, ...]
    """Names of the teachers."""
    weights: tuple[float, ...] = ()
    """One for each teacher, divided by their sum; empty for equal ones."""

    def __post_init__(self) -> None:
        _require_weights(self)

    def __call__(self, parts: Mapping[str, Table], *, student: Table) -> Table:
        """The product's log-probabilities."""
        return compositions.product([parts[name] for name in self.parts], self.weights or (1.0,) * len(self.parts))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureOfTeachers:
    """Arithmetic mean of the probabilities: what several forward-KL teachers act as; whatever one of them would say."""

    kind: Literal["mixture"] = "mixture"
    parts: tuple[str, ...]
    """Names of the teachers."""
    weights: tuple[float, ...] = ()
    """One for each teacher, divided by their sum; empty for equal ones."""

    def __post_init__(self) -> None:
        _require_weights(self)

    def __call__(self, parts: Mapping[str, Table], *, student: Table) -> Table:
        """The mixture's log-probabilities."""
        return compositions.mixture([parts[name] for name in self.parts], self.weights or (1.0,) * len(self.parts))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SteeredTeacher:
    """A base moved along what tells two others apart; with the base as the negative side and scale > 1, extrapolation."""

    kind: Literal["steering"] = "steering"
    base: str
    """Name of the distribution that is moved."""
    positive: str
    """Name of the one it is moved towards."""
    negative: str
    """Name of the one it is moved away from."""
    scale: float = 1.0
    """How far, >= 0; 0 is the base."""

    def __post_init__(self) -> None:
        if not (isfinite(self.scale) and self.scale >= 0.0):
            raise ConfigError(
                f"SteeredTeacher needs a finite scale >= 0, got {self.scale!r}. To move the other way, exchange `positive` and "
                "`negative`."
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """The names, each once."""
        return tuple(dict.fromkeys((self.base, self.positive, self.negative)))

    def __call__(self, parts: Mapping[str, Table], *, student: Table) -> Table:
        """The steered log-probabilities."""
        return compositions.steering(parts[self.base], parts[self.positive], parts[self.negative], scale=self.scale)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TrustRegionTeacher:
    """Student and teacher blended in their logits, so that the target is never far from the student."""

    kind: Literal["trust_region"] = "trust_region"
    teacher: str
    """Name of the teacher."""
    share: float = 0.5
    """The teacher's share, in [0, 1]; 1 is the teacher itself."""

    def __post_init__(self) -> None:
        _require_share(self.share, "TrustRegionTeacher")

    @property
    def parts(self) -> tuple[str, ...]:
        """The teacher."""
        return (self.teacher,)

    def __call__(self, parts: Mapping[str, Table], *, student: Table) -> Table:
        """The blend's log-probabilities."""
        return compositions.trust_region(student.detach(), parts[self.teacher], share=self.share)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class InterpolatedTeacher:
    """Student and teacher blended in their probabilities."""

    kind: Literal["interpolation"] = "interpolation"
    teacher: str
    """Name of the teacher."""
    share: float = 0.5
    """The teacher's share, in [0, 1]; 1 is the teacher itself."""

    def __post_init__(self) -> None:
        _require_share(self.share, "InterpolatedTeacher")

    @property
    def parts(self) -> tuple[str, ...]:
        """The teacher."""
        return (self.teacher,)

    def __call__(self, parts: Mapping[str, Table], *, student: Table) -> Table:
        """The blend's log-probabilities."""
        return compositions.interpolation(student.detach(), parts[self.teacher], share=self.share)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TemperedTeacher:
    """One teacher at a temperature of its own, on top of the one of the loss."""

    kind: Literal["tempered"] = "tempered"
    teacher: str
    """Name of the teacher."""
    temperature: float
    """What its log-probabilities are divided by, > 0; below 1 sharper."""

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ConfigError(f"TemperedTeacher needs temperature > 0, got {self.temperature!r}.")

    @property
    def parts(self) -> tuple[str, ...]:
        """The teacher."""
        return (self.teacher,)

    def __call__(self, parts: Mapping[str, Table], *, student: Table) -> Table:
        """The teacher's log-probabilities at that temperature."""
        return compositions.at_temperature(parts[self.teacher], self.temperature)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ConsensusOfTeachers:
    """What several views of one problem agree on, entry by entry: between their geometric and arithmetic means.

    Reference: AVSD, arXiv:2605.20643.
    """

    kind: Literal["consensus"] = "consensus"
    parts: tuple[str, ...]
    """Names of the teachers, usually one model under several contexts."""

    def __post_init__(self) -> None:
        _require_parts(self)

    def __call__(self, parts: Mapping[str, Table], *, student: Table) -> Table:
        """The consensus's log-probabilities."""
        return compositions.consensus([parts[name] for name in self.parts], student=student.detach())


AnyComposition = Annotated[
    ProductOfTeachers
    | MixtureOfTeachers
    | ConsensusOfTeachers
    | SteeredTeacher
    | TrustRegionTeacher
    | InterpolatedTeacher
    | TemperedTeacher,
    Field(discriminator="kind"),
]


def _require_parts(part: ProductOfTeachers | MixtureOfTeachers | ConsensusOfTeachers) -> None:
    if not part.parts or len(set(part.parts)) < len(part.parts):
        raise ConfigError(f"{type(part).__name__} needs at least one teacher and each one once, got {part.parts!r}.")


def _require_weights(part: ProductOfTeachers | MixtureOfTeachers) -> None:
    _require_parts(part)
    name, count = type(part).__name__, len(part.parts)
    if part.weights and (len(part.weights) != count or min(part.weights) < 0.0 or not sum(part.weights) > 0.0):
        raise ConfigError(
            f"{name} of {count} teachers needs {count} weights, none negative and not all zero, or none at all for equal ones; "
            f"got {part.weights!r}."
        )


def _require_share(share: float, name: str) -> None:
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"{name} needs 0 <= share <= 1, got {share!r}.")
