"""A copy of the student on a server: its weights follow, and every exchange is checked against the trainer.

A server that reports success may still compute with a part of the old weights (on a CPU vLLM keeps a packed copy of a tied
head). So a few log-probs decide, once with weights that were moved on purpose before the run, and after every exchange.
"""

import shutil
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.errors import PreflightError, ServerError
from tutelage.models import LanguageModel
from tutelage.rollouts.sampler_parts import ServedStudent
from tutelage.rollouts.served import ServedSampler
from tutelage.rollouts.sources import Sampling
from tutelage.serving import VLLM, Canary, Transport
from tutelage.serving.agreement import canary_ids, require_same_tokenizer
from tutelage.serving.control import Control
from tutelage.serving.engine import ByEngine, NcclGroup
from tutelage.serving.transfer import ByFolder, Transfer

_PROOF = 10.0
"""Weights are moved until the log-probs have moved by so many tolerances: an exchange that fails then shows."""


@final
class ServedCopy:
    """One server and the weights that it has; whoever draws from it has it for himself meanwhile."""

    def __init__(self, part: ServedStudent, student: LanguageModel, *, vocab: int, stop_token_ids: frozenset[int]) -> None:
        """Connect, and prove that weights can be exchanged.

        Args:
            part: The choice.
            student: The model that is trained.
            vocab: Only ids below it are ever drawn.
            stop_token_ids: Ids that end a response.

        Raises:
            ConfigError: Weights are to go from GPU to GPU, and the student lies on none.
            PreflightError: The part names no server, or the server has another tokenizer.
            ServerError: The server does not answer, does not let its weights be changed, or computes with other ones.
        """
        group = NcclGroup(student.device) if part.transfer == "nccl" else None  # refused before anybody is asked
        if not part.url:
            raise PreflightError(
                "The run's sampler is a served student without an address. Give it one: --sampler.url http://127.0.0.1:8001."
            )
        transport = Transport(part.url, patience=part.patience, key_variable=part.key_variable)
        self._client = VLLM(transport, name=part.name, sequences=part.patience.sequences)
        self._tolerance, control = part.tolerance_nats, Control(transport)
        self._sampler = ServedSampler(self._client, vocab=vocab, rows=student.vocab_size, stop_token_ids=stop_token_ids)
        require_same_tokenizer(self._client, student.tokenizer, name=student.name, option="--student.path")
        self._asked = canary_ids(student.tokenizer, vocab=vocab, most=self._client.max_scored_tokens)
        if group is None:
            self._transfer: Transfer = ByFolder(control, Path(part.folder) if part.folder else _temporary(self))
        else:
            self._transfer = ByEngine(control, group)
        self._busy = threading.RLock()
        self._held: tuple[LanguageModel, int] | None = None
        self._canary: Canary | None = None
        self._exchanges = deque[tuple[float, float]]()
        self._prove(student)

    @contextmanager
    def holding(self, model: LanguageModel) -> Iterator[ServedSampler]:
        """Have the server to oneself, with the weights of a model as they are; they are handed over where it has others.

        Raises:
            ServerError: The weights could not be exchanged, or the server has others by the end.
        """
        with self._busy:
            if self._held is None or self._held[0] is not model or self._held[1] != _version(model):
                self.hand_over(model)
            yield self._sampler
            assert self._canary is not None
            self._canary.require(self._said(), model=self._client.name)

    def require(self, sampling: Sampling) -> None:
        """See `ServedSampler.require`."""
        self._sampler.require(sampling)

    def hand_over(self, model: LanguageModel) -> None:
        """Give the server a model's weights, whatever it has, and check that it computes with them.

        Raises:
            ServerError: It does not.
        """
        with self._busy:
            began, version = time.perf_counter(), _version(model)
            gap = self._exchange(model)
            self._held = (model, version)
            self._exchanges.append((gap, time.perf_counter() - began))

    def figures(self) -> Mapping[str, float]:
        """Metrics of the exchanges since the last call, the largest gap and all seconds; empty where there was none."""
        found = [self._exchanges.popleft() for _ in range(len(self._exchanges))]  # another thread may add to them meanwhile
        if not found:
            return {}
        return {
            "serving/sync_gap_nats": max(gap for gap, _ in found),
            "serving/sync_seconds": sum(seconds for _, seconds in found),
        }

    def _prove(self, student: LanguageModel) -> None:
        """Exchange weights that differ, so that a server which keeps a part of the old ones is found before the first step."""
        moved, scale = student.clone_frozen(), 0.05
        known, own = _log_probs(student, self._asked), {id(each) for each in student.model.parameters()}
        draws = torch.Generator().manual_seed(0)
        for _ in range(8):
            _shake(moved, draws, scale=scale, leave=own)
            scale *= 2.0
            if _distance(_log_probs(moved, self._asked), known) > _PROOF * self._tolerance:
                break
        self._exchange(moved)
        self.hand_over(student)

    def _exchange(self, model: LanguageModel) -> float:
        """Hand over a model's weights; the mean distance in nats between the server and the model."""
        self._held = None
        self._transfer.give(model)
        said, expected = self._said(), _log_probs(model, self._asked)
        gap = _distance(said, expected)
        if not gap <= self._tolerance:
            raise ServerError(
                f"{self._client.name!r} was given the student's weights and says it took them, but its log-probs differ from "
                f"the trainer's by {gap:.4f} nats a token ({self._tolerance} are tolerated): it computes with other weights. "
                f"{self._transfer.remedy}"
            )
        self._canary = Canary(token_ids=tuple(self._asked), expected=said, tolerance_nats=self._tolerance)
        return gap

    def _said(self) -> Float[Tensor, " time"]:
        return self._client.score([self._asked], first=[1], k=0)[0].sampled


@torch.no_grad()
def _log_probs(model: LanguageModel, ids: Sequence[int]) -> Float[Tensor, " time"]:
    """The trainer's side: of each token but the first, over all rows of the head, as the server computes them."""
    training = model.model.training
    model.model.eval()
    tokens = torch.tensor([list(ids)], device=model.device)
    states = model.hidden_states(tokens, torch.ones_like(tokens), torch.arange(len(ids), device=model.device).unsqueeze(0))
    model.model.train(training)
    rows = model.logits(states)[0, :-1].log_softmax(-1)
    return rows.gather(-1, tokens[0, 1:].unsqueeze(-1)).squeeze(-1).cpu()


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


@torch.no_grad()
def _shake(model: LanguageModel, draws: torch.Generator, *, scale: float, leave: set[int]) -> None:
    """Move every parameter at random by a share of its own size; those that are shared with the student stay."""
    for parameter in model.model.parameters():
        if id(parameter) not in leave:
            size = scale * max(float(parameter.float().square().mean().sqrt()), 1e-3)
            parameter.add_(size * torch.randn(parameter.shape, generator=draws).to(parameter))


def _version(model: LanguageModel) -> int:
    """Grows with every change of a weight in place, whoever makes it: the optimiser, a controller, a resume.

    All parameters count: in a copy that is set to other weights none is marked as trained.
    """
    return sum(parameter._version for parameter in model.model.parameters())


def _temporary(owner: object) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tutelage-student-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
