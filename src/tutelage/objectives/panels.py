"""The walk over the rows of a step: what an objective or a measurement sees, a few rows at a time.

Two sizes. A *panel* is what one matrix product covers: large, so that the product is efficient, and held once per side.
A *tile* is what everything between the products works on: small, so that its many passes stay in the processor's cache.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.objectives.projection import Projection
from tutelage.types import (
    ComposedSignal,
    Composition,
    FullSignal,
    Head,
    RoutedSignal,
    SampledSignal,
    SpanSignal,
    StepBatch,
    TeacherSignal,
    TopKSignal,
)
from tutelage.weighting.base import Rows, TeacherRows

_TILE_BYTES = 1 << 20
"""Size of one [row, vocab] tensor of a tile: several of them fit into a processor's cache, and into the heap."""
_TILE_BYTES_ON_GPU = 64 << 20
"""The same where it takes more to keep the device busy."""
_TILE_ROWS = 4
"""Fewest rows of a tile, whatever their size: below, the calls would take longer than the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Temperatures:
    """What logits are divided by before the softmax of the loss. The sampler's temperature is a third, separate setting."""

    student: float = 1.0
    """Of the student's softmax."""
    teacher: float = 1.0
    """Of the teacher's softmax."""

    def __post_init__(self) -> None:
        if self.student <= 0.0 or self.teacher <= 0.0:
            raise ConfigError(f"Temperatures must be > 0, got student {self.student!r}, teacher {self.teacher!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How much the head may hold at once."""

    chunk_mib: int = 320
    """Memory for the logits of one panel of rows, student and teachers together, in MiB."""
    head_dtype: torch.dtype | None = None
    """Type of what the head's products read; none keeps that of the weights. Logits and softmax are in float32 or better."""
    rounded: bool = False
    """Where the head's type is a reduced one, take logits as its products give them, rounded to it relative to the row's own
    token. For CPUs, whose libraries give exact logits at the speed of float32 only; GPUs need no such choice."""

    compile: bool = False
    """Fuse the element-wise part of divergences by `torch.compile`. It takes its time at the start and a compiler on a CPU, and
    pays for those with many passes over memory (skew KLs, Hellinger, ...); the two KLs have too few to gain and stay."""

    def __post_init__(self) -> None:
        if self.chunk_mib < 1:
            raise ConfigError(f"The head's budget needs chunk_mib >= 1, got {self.chunk_mib!r}.")

    def panels(self, total: int, *, vocab: int, sides: int) -> list[slice]:
        """All rows in equal panels within the budget."""
        most = max(1, (self.chunk_mib << 20) // (4 * vocab * sides))
        return _slices(total, ceil(total / max(1, ceil(total / most))))


Whole = tuple[Projection, Float[Tensor, "row vocab"]]
"""A head and the panel's raw logits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Routed:
    """Several heads, each with the products of its own rows of the panel."""

    wholes: Sequence[tuple[Projection, Float[Tensor, "_ vocab"]]]
    which: Int[Tensor, " row"]
    """Who speaks for each row of the panel."""
    place: Int[Tensor, " row"]
    """Each row's place among those of who speaks for it."""

    def log_probs(self, tile: slice, like: Float[Tensor, "tile vocab"]) -> Float[Tensor, "tile vocab"]:
        """Of the rows of a tile."""
        found, which, place = torch.empty_like(like), self.which[tile], self.place[tile]
        for index, (projection, product) in enumerate(self.wholes):
            own = (which == index).nonzero().squeeze(-1)
            found[own] = projection.log_probs(product[place[own]])
        return found


Said = TopKSignal | SampledSignal | SpanSignal | Whole | _Routed | tuple[Composition, Mapping[str, Whole]]
"""A teacher's signal, where it is a whole one as products with heads."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Panel:
    """The rows of one product. Its tensors are overwritten by the next panel's."""

    rows: slice
    """Place among the rows of the batch."""
    product: Float[Tensor, "row vocab"]
    """The student's raw logits; whoever walks may overwrite a tile's part once it is done with the tile."""
    student: Projection
    batch: StepBatch
    teachers: Mapping[str, Said]
    compiled: bool = False

    def tiles(self) -> Iterator[tuple[slice, Float[Tensor, "row vocab"], Rows]]:
        """For each tile its place in the batch, its part of `product`, and what signals and weights see of it."""
        total, vocab = self.product.shape
        size = _TILE_BYTES if self.product.device.type == "cpu" else _TILE_BYTES_ON_GPU
        for tile in _slices(total, max(_TILE_ROWS, size // (self.product.element_size() * vocab))):
            rows = slice(self.rows.start + tile.start, self.rows.start + tile.stop)
            batch, product = self.batch.select(rows), self.product[tile]
            student = self.student.log_probs(product)
            teachers = {name: _read(said, rows, tile, batch, student) for name, said in self.teachers.items()}
            yield rows, product, Rows(student=student, teachers=teachers, batch=batch, compiled=self.compiled)


def walk(
    batch: StepBatch,
    *,
    hidden: Float[Tensor, "row width"],
    head: Head,
    teachers: Mapping[str, TeacherSignal],
    temperatures: Temperatures,
    budget: Budget,
) -> Iterator[Panel]:
    """All rows of a batch, panel by panel, without gradients.

    Raises:
        ConfigError: A teacher that gives only some log-probabilities is asked for another temperature than theirs.
    """
    exact = torch.promote_types(hidden.dtype, torch.float32)
    prepare = partial(Projection, exact=exact, dtype=budget.head_dtype, rounded=budget.rounded)
    student = prepare(head, temperature=temperatures.student)
    heads = {
        name: {part: prepare(whole.head, temperature=temperatures.teacher) for part, whole in _wholes(signal).items()}
        for name, signal in teachers.items()
    }
    if temperatures.teacher != 1.0 and not all(heads.values()):
        raise ConfigError(
            f"The teacher's temperature is {temperatures.teacher!r}, but this teacher gives only some log-probabilities at "
            "temperature 1, which cannot be rescaled. Set it to 1, or load the teacher in process."
        )
    for rows in budget.panels(batch.num_rows, vocab=head.vocab_size, sides=1 + sum(map(len, heads.values()))):
        tokens = batch.token[rows]
        said = {name: _multiply(signal, heads[name], rows, tokens) for name, signal in teachers.items()}
        product = student.panel(hidden[rows], tokens)
        yield Panel(rows=rows, product=product, student=student, batch=batch, teachers=said, compiled=budget.compile)


def _wholes(signal: TeacherSignal) -> Mapping[str, FullSignal]:
    """The whole distributions behind a signal, each of which takes a product of its own."""
    match signal:
        case FullSignal():
            return {"": signal}
        case ComposedSignal():
            return signal.parts
        case RoutedSignal():
            return {str(index): part for index, part in enumerate(signal.parts)}
        case _:
            return {}


def _multiply(signal: TeacherSignal, heads: Mapping[str, Projection], rows: slice, tokens: Int[Tensor, " row"]) -> Said:
    if isinstance(signal, RoutedSignal):
        return _multiply_routed(signal, list(heads.values()), rows, tokens)
    products = {part: (heads[part], heads[part].panel(whole.hidden[rows], tokens)) for part, whole in _wholes(signal).items()}
    match signal:
        case FullSignal():
            return products[""]
        case ComposedSignal():
            return signal.composition, products
        case _:
            return signal


def _multiply_routed(signal: RoutedSignal, heads: Sequence[Projection], rows: slice, tokens: Int[Tensor, " row"]) -> _Routed:
    which = signal.which[rows]
    place, wholes = torch.zeros_like(which), list[Whole]()
    for index, (projection, part) in enumerate(zip(heads, signal.parts, strict=True)):
        own = (which == index).nonzero().squeeze(-1)
        place[own] = torch.arange(len(own), device=own.device)
        wholes.append((projection, projection.panel(part.hidden[rows][own], tokens[own])))
    return _Routed(wholes=wholes, which=which, place=place)


def _read(said: Said, rows: slice, tile: slice, batch: StepBatch, student: Float[Tensor, "tile vocab"]) -> TeacherRows:
    match said:
        case TopKSignal():
            part = said.select(rows)
            return TeacherRows(top_ids=part.ids, top_log_probs=part.log_probs, sampled=part.sampled)
        case SpanSignal():
            part = said.select(rows)
            return TeacherRows(sampled=torch.full_like(part.weight, torch.nan), weighted=part)
        case SampledSignal():
            return TeacherRows(sampled=said.select(rows).sampled)
        case (Projection() as projection, Tensor() as product):
            log_probs = projection.log_probs(product[tile])
        case _Routed():
            log_probs = said.log_probs(tile, student)
        case (composition, parts):
            read = {name: projection.log_probs(product[tile]) for name, (projection, product) in parts.items()}
            log_probs = composition(read, student=student)
    return TeacherRows(log_probs=log_probs, sampled=log_probs.gather(-1, batch.token.unsqueeze(-1)).squeeze(-1))


def _slices(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, max(size, 1))]
