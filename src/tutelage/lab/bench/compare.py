"""The benches themselves: workers are asked in turn, one at a time."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tutelage.errors import NumericsError
from tutelage.lab.bench.processes import Worker, peer
from tutelage.lab.bench.settings import GROWTH_ROWS, PEER_BETAS, HeadBench, StepBench, as_json

Work = TypeVar("Work")
Say = Callable[[str], None]
Result = dict[str, Any]
"""A bench's outcome as a JSON-able value: `bench`, `settings`, `peer`, and its readings."""

PEER_IS_MISSING = 'TRL is not installed, so only our side ran. For both: pip install "tutelage[peer]"'
_AGREEMENT = {"float32": 1e-3, "bfloat16": 5e-2}
"""By how much two sides' losses and gradient norms may differ, relative to the larger one."""


def head(settings: HeadBench, *, say: Say) -> Result:
    """Bare products, our fused head and the peer's kernel on the same inputs.

    Raises:
        NumericsError: The two sides do not compute the same thing.
        TutelageError: A worker died.
    """
    against = peer()
    sides = ["products", "ours"] + (["peer"] if against and set(settings.signals) & set(PEER_BETAS) else [])
    works = [(side, signal) for side in sides for signal in _signals_of(side, settings)]
    readings: dict[str, dict[str, list[dict[str, Any]]]] = {side: {} for side in sides}
    for side, signal in works:
        readings[side][signal] = []
    with ExitStack() as stack:
        workers = {side: stack.enter_context(Worker(side, _job("head", side, settings))) for side in sides}
        for counted, (side, signal) in _turns(works, settings.pairs, say):
            reading = workers[side].ask({"signal": signal})
            if counted:
                readings[side][signal].append(reading)
    if "peer" in readings:
        _require_agreement(settings, readings["ours"], readings["peer"])
    (products,) = readings.pop("products").values()
    return _result("head", settings, against) | {"products": products, "readings": readings}


def growth(settings: HeadBench, *, rows: Sequence[int] = GROWTH_ROWS, say: Say) -> Result:
    """Our fused head alone at growing numbers of rows; memory and time, in a process each."""
    found: list[dict[str, Any]] = []
    for count in rows:
        part = replace(settings, rows=count, signals=settings.signals[:1])
        say(f"{count} rows")
        with Worker("ours", _job("head", "ours", part)) as worker:
            readings = [worker.ask({"signal": part.signals[0]}) for _ in range(1 + part.pairs)][1:]
        found.append({"rows": count, "readings": readings})
    return _result("growth", settings, None) | {"growth": found}


def step(settings: StepBench, *, say: Say) -> Result:
    """Whole training steps of both trainers.

    Raises:
        TutelageError: A worker died.
    """
    from tutelage.lab.bench import inputs

    against = peer()
    sides = ["ours", "peer"] if against else ["ours"]
    readings: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        say("writing the models")
        inputs.write(Path(folder), settings)
        workers = {side: stack.enter_context(Worker(side, _job("step", side, settings, folder=folder))) for side in sides}
        for counted, side in _turns(sides, settings.pairs, say):
            reading = workers[side].ask({"step": True})
            if counted:
                readings[side].append(reading)
    return _result("step", settings, against) | {"readings": readings}


def _turns(works: Sequence[Work], pairs: int, say: Say) -> Iterator[tuple[bool, Work]]:
    """Each work once per round, every other round backwards; the first round warms up and is not counted."""
    for turn in range(1 + pairs):
        say(f"round {turn} of {pairs}" if turn else "warm-up")
        for work in works if turn % 2 == 0 else reversed(works):
            yield turn > 0, work


def _signals_of(side: str, settings: HeadBench) -> Sequence[str]:
    """The bare products are the same for all signals, and the peer has only some."""
    if side == "products":
        return settings.signals[:1]
    return [signal for signal in settings.signals if side == "ours" or signal in PEER_BETAS]


def _job(bench: str, side: str, settings: HeadBench | StepBench, *, folder: str = "") -> dict[str, Any]:
    return {"bench": bench, "side": side, "settings": as_json(settings), "folder": folder}


def _result(bench: str, settings: HeadBench | StepBench, against: str | None) -> Result:
    return {"bench": bench, "settings": as_json(settings), "peer": against}


def _require_agreement(
    settings: HeadBench, ours: Mapping[str, Sequence[Mapping[str, float]]], theirs: Mapping[str, Sequence[Mapping[str, float]]]
) -> None:
    tolerance = _AGREEMENT[settings.dtype]
    for signal, readings in theirs.items():
        for name in ("loss", "hidden_gradient_norm", "weight_gradient_norm"):
            own, other = ours[signal][-1][name], readings[-1][name]
            if not math.isclose(own, other, rel_tol=tolerance):
                raise NumericsError(
                    f"The two sides do not compute the same thing, so their times cannot be compared: for {signal!r} in "
                    f"{settings.dtype} our {name} is {own!r} and the peer's {other!r}; they may differ by {tolerance:g} of "
                    "the larger one."
                )
