"""The head: the same hidden states and weights through four bare products, our fused head, and the peer's kernel."""

from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any, final

import torch
from torch import Tensor

from tutelage import objectives as o
from tutelage.lab.bench.channel import Channel
from tutelage.lab.bench.meter import Meter
from tutelage.lab.bench.settings import PEER_BETAS, HeadBench
from tutelage.types import Author, Example, FullSignal, Head, Rollout, StepBatch

_SHARPNESS = 2.0
"""Standard deviation of the logits."""


def _one(signal: Any) -> tuple[o.Term, ...]:  # any of the signals, which share no base
    return (o.Term(name="loss", signal=signal),)


TERMS: dict[str, tuple[o.Term, ...]] = {
    "reverse_kl": _one(o.ReverseKL()),
    "forward_kl": _one(o.ForwardKL()),
    "jensen_shannon": _one(o.JensenShannon()),
    "three_terms": tuple(
        o.Term(name=name, signal=signal)
        for name, signal in (("reverse", o.ReverseKL()), ("forward", o.ForwardKL()), ("sampled", o.ScoreFunction()))
    ),
    "score_function": _one(o.ScoreFunction()),
    "score_function_with_baseline": _one(o.ScoreFunction(advantage=o.LogRatio(baseline=o.StudentKLBaseline()))),
    "reverse_kl_top_64": _one(o.ReverseKL(support=o.TopK(k=64))),
    "reverse_kl_with_statistics": _one(o.ReverseKL()),
}


@final
class Case:
    """Random student and teacher of one shape, and what is timed on them; the same for every side."""

    def __init__(self, settings: HeadBench, *, device: str = "cpu") -> None:
        self._settings, dtype = settings, getattr(torch, settings.dtype)
        generator = torch.Generator().manual_seed(settings.seed)

        def draw(rows: int, width: int, scale: float) -> Tensor:
            return torch.randn(rows, width, generator=generator).mul_(scale).to(device, dtype)

        rows, vocab, width, theirs = settings.rows, settings.vocab, settings.width, settings.teacher_width
        self.hidden = draw(rows, width, 1.0).requires_grad_()
        self.weight = draw(vocab, width, _SHARPNESS / width**0.5).requires_grad_()
        self.teacher_hidden = draw(rows, theirs, 1.0)
        self.teacher_weight = draw(vocab, theirs, _SHARPNESS / theirs**0.5)
        self._batch = _step(torch.randint(vocab, (rows,), generator=generator)).to(torch.device(device))

    def clear(self) -> None:
        """Forget the gradients."""
        self.hidden.grad = self.weight.grad = None

    def products(self) -> Callable[[], None]:
        """The four products that nobody can do without, into memory that is there already."""
        hidden, weight = self.hidden.detach(), self.weight.detach()
        logits = hidden.new_empty(len(hidden), len(weight))
        to_hidden, to_weight = torch.empty_like(hidden), torch.empty_like(weight)

        def run() -> None:
            torch.mm(self.teacher_hidden, self.teacher_weight.T, out=logits)
            torch.mm(hidden, weight.T, out=logits)
            torch.mm(logits, weight, out=to_hidden)
            torch.mm(logits.T, hidden, out=to_weight)

        return run

    def ours(self, signal: str) -> Tensor:
        """Plan, loss, both gradients."""
        found = o.evaluate(
            o.plan(TERMS[signal], self._batch),
            self._batch,
            hidden=self.hidden,
            head=Head(weight=self.weight),
            teachers={"teacher": FullSignal(hidden=self.teacher_hidden, head=Head(weight=self.teacher_weight))},
            budget=o.Budget(chunk_mib=self._settings.chunk_mib, rounded=self._settings.dtype == "bfloat16"),
            statistics=signal == "reverse_kl_with_statistics",
        )
        found.loss.backward()
        return found.loss.detach()

    def peers(self, signal: str) -> Tensor:
        """The same loss and gradients through the peer's kernel."""
        kernel: Any = import_module("trl.kernels.chunked_divergence").ChunkedDivergenceFunction  # an optional package
        temperature = scale = 1.0
        no_bias = no_softcap = None
        divergence, _ = kernel.apply(
            *(self.hidden, self.weight, no_bias),
            *(self.teacher_hidden, self.teacher_weight, no_bias),
            *(PEER_BETAS[signal], temperature),
            *(scale, no_softcap),
            *(scale, no_softcap),
        )
        loss = divergence.mean()
        loss.backward()
        return loss.detach()

    def work(self, side: str) -> Callable[[str], Tensor | None]:
        """What a side does for a signal; the bare products give no loss."""
        if side == "products":
            products = self.products()
            return lambda signal: products()
        return self.ours if side == "ours" else self.peers


def serve(settings: HeadBench, side: str, channel: Channel) -> None:
    """Work on a signal whenever asked, and report time, memory, the loss and the size of both gradients."""
    case = Case(settings)
    work, meter = case.work(side), Meter()
    if side == "peer":
        import_module("trl.kernels.chunked_divergence")
    channel.send({"ready": side})
    while True:
        signal = channel.wait()["signal"]
        case.clear()
        meter.start()
        loss = work(signal)
        reading = meter.stop()
        channel.send(asdict(reading) | ({} if loss is None else figures(case, loss)))


def figures(case: Case, loss: Tensor) -> dict[str, float]:
    """What two sides must agree on."""
    assert case.hidden.grad is not None
    assert case.weight.grad is not None
    return {
        "loss": float(loss),
        "hidden_gradient_norm": float(torch.linalg.vector_norm(case.hidden.grad, dtype=torch.float32)),
        "weight_gradient_norm": float(torch.linalg.vector_norm(case.weight.grad, dtype=torch.float32)),
    }


def _step(ids: Tensor) -> StepBatch:
    """One response of the given tokens."""
    return StepBatch.of(
        [
            Rollout(
                example=Example(id="0", prompt=""),
                group=0,
                prompt_ids=ids[:1],
                response_ids=ids,
                authors=torch.full_like(ids, int(Author.STUDENT)),
                behaviour_log_probs=torch.full(ids.shape, -5.0),
                finish="length",
                text="",
            )
        ]
    )
