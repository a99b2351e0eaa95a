"""A served copy of the student that is trained: its weights follow, and every exchange is checked against the trainer.

A server that reports success may still compute with a part of the old weights (on a CPU vLLM keeps a packed copy of a tied
head). So a few log-probs decide, once with weights that were moved on purpose before the run, and after every exchange.
"""

import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.errors import PreflightError, ServerError
from tutelage.models import LanguageModel
from tutelage.rollouts.sampler_parts import ServedStudent
from tutelage.rollouts.samples import Sample
from tutelage.rollouts.served import ServedSampler
from tutelage.rollouts.sources import Sampling
from tutelage.serving import VLLM, Canary, Transport
from tutelage.serving.agreement import canary_ids, require_same_tokenizer
from tutelage.serving.control import EXTENSION, Control

_PROOF = 10.0
"""Weights are moved until the log-probs have moved by so many tolerances: an exchange that fails then shows."""


@final
class SyncedSampler:
    """Samples on a server from the student as it is."""

    def __init__(self, part: ServedStudent, student: LanguageModel, *, vocab: int, stop_token_ids: frozenset[int]) -> None:
        """Connect, and prove that weights can be exchanged.

        Args:
            part: The choice.
            student: The model that is trained.
            vocab: Only ids below it are ever drawn.
            stop_token_ids: Ids that end a response.

        Raises:
            PreflightError: The part names no server, or the server has another tokenizer.
            ServerError: The server does not answer, does not let its weights be changed, or computes with other ones.
        """
        if not part.url:
            raise PreflightError(
                "The run's sampler is a served student without an address. Give it one: --sampler.url http://127.0.0.1:8001."
            )
        transport = Transport(part.url, patience=part.patience, key_variable=part.key_variable)
        self._client = VLLM(transport, name=part.name, sequences=part.patience.sequences)
        self._control, self._student, self._tolerance = Control(transport), student, part.tolerance_nats
        self._sampler = ServedSampler(self._client, vocab=vocab, rows=student.vocab_size, stop_token_ids=stop_token_ids)
        require_same_tokenizer(self._client, student.tokenizer, name=student.name, option="--student.path")
        self._asked = canary_ids(student.tokenizer, vocab=vocab, most=self._client.max_scored_tokens)
        self._folder = Path(part.folder) if part.folder else _temporary(self)
        self._held: int | None = None
        self._canary: Canary | None = None
        self._figures: dict[str, float] = {}
        self._prove()

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        max_new_tokens: Sequence[int] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`.

        Raises:
            ServerError: As `ServedSampler.sample`; or the weights could not be exchanged, or the server has others by now.
        """
        if self._held != _version(self._student):
            self.sync()
        found = self._sampler.sample(prompts, sampling, seed=seed, max_new_tokens=max_new_tokens)
        assert self._canary is not None
        self._canary.require(self._said(), model=self._client.name)
        return found

    def require(self, sampling: Sampling) -> None:
        """See `ServedSampler.require`."""
        self._sampler.require(sampling)

    def sync(self) -> None:
        """Give the server the student's weights as they are, and check that it computes with them.

        Raises:
            ServerError: It does not.
        """
        began, version = time.perf_counter(), _version(self._student)
        gap = self._exchange(self._student)
        self._held = version
        self._figures = {"serving/sync_gap_nats": gap, "serving/sync_seconds": time.perf_counter() - began}

    def figures(self) -> Mapping[str, float]:
        """Metrics of the exchange since the last call; empty where there was none."""
        found, self._figures = self._figures, {}
        return found

    def _prove(self) -> None:
        """Exchange weights that differ, so that a server which keeps a part of the old ones is found before the first step."""
        moved, scale = self._student.clone_frozen(), 0.05
        known, own = _log_probs(self._student, self._asked), {id(each) for each in self._student.model.parameters()}
        draws = torch.Generator().manual_seed(0)
        for _ in range(8):
            _shake(moved, draws, scale=scale, leave=own)
            scale *= 2.0
            if _distance(_log_probs(moved, self._asked), known) > _PROOF * self._tolerance:
                break
        self._exchange(moved)
        self.sync()

    def _exchange(self, model: LanguageModel) -> float:
        """Hand over a model's weights; the mean distance in nats between the server and the model."""
        self._held = None
        model.save(self._folder)
        self._control.load(self._folder)
        said, expected = self._said(), _log_probs(model, self._asked)
        gap = _distance(said, expected)
        if not gap <= self._tolerance:
            raise ServerError(
                f"{self._client.name!r} was given the student's weights and says it took them, but its log-probs differ from "
                f"the trainer's by {gap:.4f} nats a token ({self._tolerance} are tolerated): it computes with other weights. "
                f"{self._remedy()}"
            )
        self._canary = Canary(token_ids=tuple(self._asked), expected=said, tolerance_nats=self._tolerance)
        return gap

    def _remedy(self) -> str:
        if self._control.extended:
            return (
                "Does the server read the same folder, and serve the student's architecture? Is its type float16 or quantised?"
            )
        return (
            "With tied embeddings on a CPU the server keeps a packed copy of the old head: start it with "
            f"--worker-extension-cls {EXTENSION} and this package in its PYTHONPATH. Otherwise check that it reads the folder "
            f"{str(self._folder)!r} (--sampler.folder)."
        )

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
    """Grows with every change of the trained weights in place, whoever makes it: the optimiser, a controller, a resume."""
    return sum(parameter._version for parameter in model.trainable_parameters())


def _temporary(owner: object) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tutelage-student-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
