"""Between what a teacher says about the rows of a step and what a cache keeps of it, response by response."""

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import CacheError, ConfigError, NumericsError
from tutelage.objectives.panels import Budget, Temperatures, walk
from tutelage.scores import Entry, Request, decode_top, encode_top
from tutelage.scores.shards import write_durably
from tutelage.types import FullSignal, Head, RoutedSignal, SampledSignal, StepBatch, TopKSignal

Single = FullSignal | TopKSignal | SampledSignal

_FOLDER = "heads"


def entries_of(
    batch: StepBatch,
    signal: Single | RoutedSignal,
    request: Request,
    *,
    rows: Mapping[int, Int[Tensor, " _"]],
    teachers: Mapping[int, str],
) -> dict[int, Entry]:
    """What is kept of some rollouts.

    Args:
        batch: The step.
        signal: What the teacher said about all of its rows.
        request: What is kept.
        rows: Of each rollout that is kept, by its index.
        teachers: Fingerprint of who scored it, by the same.

    Raises:
        ConfigError: The teacher gave less than is asked for.
        NumericsError: A score is not a number; the message names the example and the position.
    """
    if not rows:
        return {}
    everything = torch.cat(list(rows.values()))
    columns = _columns(batch.select(everything), signal.select(everything), request)
    found, start = dict[int, Entry](), 0
    for index, own in rows.items():
        part = {name: values[start : start + len(own)] for name, values in columns.items()}
        start += len(own)
        if "sampled" in part and bool(part["sampled"].isnan().any()):
            position = int(batch.position[own][part["sampled"].isnan()][0])
            raise NumericsError(
                f"The teacher's log-probability is not a number at token {position} of the response to example "
                f"{batch.rollouts[index].example.id!r}. Nothing of this was kept. Check the teacher's weights and its dtype."
            )
        found[index] = _entry(part, request, teacher=teachers[index], tokens=len(own))
    return found


def signal_of(
    batch: StepBatch,
    entries: Mapping[int, Entry],
    request: Request,
    *,
    rows: Mapping[int, Int[Tensor, " _"]],
    vocab: int,
    head: Head | None,
) -> Single:
    """The signal of a step from what was kept; zeros at rows without scores."""
    device, total = batch.token.device, batch.num_rows
    if request.kind == "hidden":
        assert head is not None, "hidden states say nothing without their head"
        kept = {index: _hidden(entry).to(device) for index, entry in entries.items()}
        dtype = next((states.dtype for states in kept.values()), head.weight.dtype)
        hidden = torch.zeros(total, head.weight.shape[-1], dtype=dtype, device=device)
        for index, states in kept.items():
            hidden[rows[index]] = states
        return FullSignal(hidden=hidden, head=head)
    sampled = torch.zeros(total, device=device)
    for index, entry in entries.items():
        sampled[rows[index]] = torch.from_numpy(entry.sampled.copy()).to(device)
    if request.kind == "sampled":
        return SampledSignal(sampled=sampled)
    k = min(request.k, vocab)
    ids = torch.arange(k, device=device).repeat(total, 1)
    log_probs = torch.full((total, k), -float(np.log(vocab)), device=device)  # any small mass where nobody is taught
    for index, entry in entries.items():
        ids[rows[index]] = torch.from_numpy(entry.ids.astype(np.int64)).to(device)
        log_probs[rows[index]] = torch.from_numpy(decode_top(entry.drops, entry.tail)).to(device)
    return TopKSignal(ids=ids, log_probs=log_probs, sampled=sampled)


def keep_head(folder: Path, fingerprint: str, head: Head) -> None:
    """Write down the head that a teacher's hidden states enter.

    Raises:
        OSError: The folder cannot be written.
    """
    if _heads(folder, fingerprint, head.vocab_size):
        return
    buffer = io.BytesIO()
    torch.save({field.name: _alone(getattr(head, field.name)) for field in fields(head)}, buffer)
    content = buffer.getvalue()
    write_durably(folder / _FOLDER / f"{fingerprint}-{head.vocab_size}-{_digest(content)}.pt", content)


def read_head(folder: Path, fingerprint: str, *, vocab: int, device: torch.device) -> Head:
    """The head that a teacher's hidden states enter.

    Raises:
        CacheError: It was not kept, or is damaged.
    """
    for path in _heads(folder, fingerprint, vocab):
        with suppress(OSError):
            content = path.read_bytes()
            if path.stem.endswith(_digest(content)):
                return Head(**torch.load(io.BytesIO(content), weights_only=True, map_location=device))
    raise CacheError(
        f"The score cache {str(folder)!r} has no whole head for the teacher's hidden states. Run tutelage cache "
        "precompute with this run's settings where the weights are."
    )


def _heads(folder: Path, fingerprint: str, vocab: int) -> list[Path]:
    return sorted((folder / _FOLDER).glob(f"{fingerprint}-{vocab}-*.pt"))


def _alone(value: Tensor | float | None) -> Tensor | float | None:
    """A tensor without the storage that it is a part of."""
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _columns(batch: StepBatch, signal: Single | RoutedSignal, request: Request) -> dict[str, Tensor]:
    """What is kept of some rows, one entry per row."""
    if request.kind == "hidden":
        if not isinstance(signal, FullSignal):
            raise ConfigError("The cache is to keep hidden states, and this teacher gives only log-probabilities.")
        return {"hidden": signal.hidden.cpu()}
    if not isinstance(signal, RoutedSignal):
        return _likeliest(batch, signal, request.k)
    parts = {place: (signal.which == place).nonzero().squeeze(-1) for place in signal.which.unique().tolist()}
    found = [_likeliest(batch.select(own), signal.parts[place].select(own), request.k) for place, own in parts.items()]
    order = torch.cat(list(parts.values())).argsort().cpu()
    return {name: torch.cat([part[name] for part in found])[order] for name in found[0]}


def _likeliest(batch: StepBatch, signal: Single, k: int) -> dict[str, Tensor]:
    """Likeliest entries with their log-probabilities, and those of the written tokens."""
    match signal:
        case TopKSignal() if signal.ids.shape[1] >= k:
            columns = (signal.log_probs[:, :k], signal.ids[:, :k], signal.sampled)
        case SampledSignal() if k == 0:
            columns = (signal.sampled.new_zeros(batch.num_rows, 0), batch.token.new_zeros(batch.num_rows, 0), signal.sampled)
        case FullSignal(hidden=hidden, head=head):
            # as if the teacher were the student: the same arithmetic as where its distribution is at hand
            panels = walk(batch, hidden=hidden, head=head, teachers={}, temperatures=Temperatures(), budget=Budget())
            tiles = [
                (*view.student.topk(min(k, head.vocab_size), dim=-1), view.sampled)
                for panel in panels
                for _, _, view in panel.tiles()
            ]
            columns = tuple(torch.cat(column) for column in zip(*tiles, strict=True))
        case _:
            raise ConfigError(f"The cache is to keep the {k} likeliest entries of each token, and this teacher gives fewer.")
    return {name: values.cpu() for name, values in zip(("log_probs", "ids", "sampled"), columns, strict=True)}


def _entry(values: Mapping[str, Tensor], request: Request, *, teacher: str, tokens: int) -> Entry:
    if request.kind == "hidden":
        hidden = values["hidden"].contiguous()
        return Entry(
            teacher=teacher,
            request=request.name,
            tokens=tokens,
            hidden=hidden.view(torch.uint8).numpy().tobytes(),
            hidden_dtype=str(hidden.dtype).removeprefix("torch."),
        )
    sampled = values["sampled"].float().numpy()
    if request.kind == "sampled":
        return Entry(teacher=teacher, request=request.name, tokens=tokens, sampled=sampled)
    ids, drops, tail = encode_top(values["ids"].numpy(), values["log_probs"].float().numpy())
    return Entry(teacher=teacher, request=request.name, tokens=tokens, sampled=sampled, ids=ids, drops=drops, tail=tail)


def _hidden(entry: Entry) -> Float[Tensor, "token width"]:
    values = torch.frombuffer(bytearray(entry.hidden), dtype=getattr(torch, entry.hidden_dtype))
    return values.reshape(entry.tokens, -1)
