"""A head ready for use: hidden states in, log-probabilities out, and the gradient's way back to its product."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from tutelage.types import Head

_UPCAST_ENTRIES = 8192
"""Vocabulary entries whose weights are turned to float32 at a time."""


@final
class Projection:
    """A head ready for use: detached, its weights turned to the type of the products once."""

    def __init__(self, head: Head, *, exact: torch.dtype, dtype: torch.dtype | None, temperature: float) -> None:
        """Prepare a head.

        Args:
            head: The output layer.
            exact: Type of logits and log-probabilities.
            dtype: Type of what the products read; none keeps that of the weights.
            temperature: What finished logits are divided by.
        """
        self.weight = head.weight.detach().to(dtype or head.weight.dtype)
        self._bias = None if head.bias is None else head.bias.detach()
        self._scale, self._softcap, self._temperature = head.scale, head.softcap, temperature
        self._exact = exact
        self._buffer: Tensor | None = None

    def panel(self, hidden: Float[Tensor, "row width"]) -> Float[Tensor, "row vocab"]:
        """`hidden @ weight.T + bias`; the next call overwrites it."""
        rows, vocab = hidden.shape[0], self.weight.shape[0]
        if self._buffer is None or self._buffer.shape[0] < rows:
            self._buffer = torch.empty(rows, vocab, dtype=self._exact, device=hidden.device)
        product = self._buffer[:rows]
        self._multiply(hidden.detach().to(self.weight.dtype), product)
        return product if self._bias is None else product.add_(self._bias)

    def _multiply(self, hidden: Float[Tensor, "row width"], out: Float[Tensor, "row vocab"]) -> None:
        """Products of reduced precision still give exact logits: rounded to bfloat16, a log-ratio is off by hundredths."""
        if self.weight.dtype == self._exact:
            torch.mm(hidden, self.weight.T, out=out)
        elif self.weight.is_cuda:
            out.copy_(torch.mm(hidden, self.weight.T, out_dtype=self._exact))
        else:
            inputs = hidden.to(self._exact)
            for start in range(0, out.shape[1], _UPCAST_ENTRIES):
                entries = slice(start, start + _UPCAST_ENTRIES)
                out[:, entries] = inputs @ self.weight[entries].to(self._exact).T

    def log_probs(self, product: Float[Tensor, "row vocab"]) -> Float[Tensor, "row vocab"]:
        """Log-probabilities at the temperature; `product` stays as it is."""
        logits = product if self._scale == 1.0 else product * self._scale
        if self._softcap is not None:
            logits = self._softcap * torch.tanh(logits / self._softcap)
        return (logits if self._temperature == 1.0 else logits / self._temperature).log_softmax(dim=-1)

    def pull_back_(self, gradient: Float[Tensor, "row vocab"], product: Float[Tensor, "row vocab"]) -> None:
        """Overwrite `product` with the gradient for it, from the one for logits divided by the temperature."""
        if self._softcap is not None:
            gradient = gradient * (1.0 - torch.tanh(product * (self._scale / self._softcap)).square())
        torch.mul(gradient, self._scale / self._temperature, out=product)
