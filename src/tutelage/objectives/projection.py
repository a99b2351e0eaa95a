"""A head ready for use: hidden states in, log-probabilities out, and the gradient's way back to its product."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.math.slopes import logit_gradient
from tutelage.types import Head

_UPCAST_ENTRIES = 8192
"""Vocabulary entries whose weights are turned to float32 at a time."""
_SPARE_COLUMNS = 32
"""Columns beside a rounded head's weights: two are used, the others keep rows aligned."""


@final
class Projection:
    """A head ready for use: detached, its weights turned to the type of the products once."""

    def __init__(
        self, head: Head, *, exact: torch.dtype, dtype: torch.dtype | None, temperature: float, rounded: bool = False
    ) -> None:
        """Prepare a head.

        Args:
            head: The output layer.
            exact: Type of logits and log-probabilities.
            dtype: Type of what the products read; none keeps that of the weights.
            temperature: What finished logits are divided by.
            rounded: Let a product of reduced precision come out in that precision, relative to the row's own token.
        """
        dtype = dtype or head.weight.dtype
        self._rounded = rounded and dtype != exact
        if self._rounded:
            vocab, width = head.weight.shape
            self._widened = torch.empty(vocab, width + _SPARE_COLUMNS, dtype=dtype, device=head.weight.device)
            self._widened[:, :width] = head.weight.detach()
            self._widened[:, width : width + 2], self._widened[:, width + 2 :] = 1.0, 0.0
            self.weight = self._widened[:, :width]
        else:
            self.weight = head.weight.detach().to(dtype)
        self._bias = None if head.bias is None else head.bias.detach()
        self._scale, self._softcap, self._temperature = head.scale, head.softcap, temperature
        self._exact = exact
        self._buffer: Tensor | None = None

    def panel(self, hidden: Float[Tensor, "row width"], tokens: Int[Tensor, " row"]) -> Float[Tensor, "row vocab"]:
        """`hidden @ weight.T + bias`; the next call overwrites it.

        A rounded product is that up to a constant per row, which the softmax takes out again, unless a softcap follows.
        """
        rows, vocab = hidden.shape[0], self.weight.shape[0]
        if self._buffer is None or self._buffer.shape[0] < rows:
            self._buffer = torch.empty(rows, vocab, dtype=self._exact, device=hidden.device)
        product = self._buffer[:rows]
        hidden = hidden.detach().to(self.weight.dtype)
        if self._rounded:
            self._multiply_rounded(hidden, tokens, product)
        else:
            self._multiply(hidden, product)
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

    def _multiply_rounded(
        self, hidden: Float[Tensor, "row width"], tokens: Int[Tensor, " row"], out: Float[Tensor, "row vocab"]
    ) -> None:
        """Subtract the own token's logit inside of the product, before it is rounded.

        The error of an entry is then in proportion to its distance from a token that was likely enough to be written, and
        not to the size of the logits: small where there is any probability, and none at the token itself.
        """
        width = hidden.shape[1]
        own = (hidden.float() * self.weight[tokens].float()).sum(dim=-1)
        widened = hidden.new_zeros(hidden.shape[0], width + _SPARE_COLUMNS)
        widened[:, :width] = hidden
        widened[:, width] = -own
        widened[:, width + 1] = -own - widened[:, width].float()  # what the rounding of the first column left
        out.copy_(widened @ self._widened.T)
        if self._softcap is not None:
            out.add_(own.to(out.dtype).unsqueeze(-1))

    def log_probs(self, product: Float[Tensor, "row vocab"]) -> Float[Tensor, "row vocab"]:
        """Log-probabilities at the temperature; `product` stays as it is."""
        logits = product if self._scale == 1.0 else product * self._scale
        if self._softcap is not None:
            logits = self._softcap * torch.tanh(logits / self._softcap)
        return (logits if self._temperature == 1.0 else logits / self._temperature).log_softmax(dim=-1)

    def pull_back_(
        self, slope: Float[Tensor, "row vocab"], student: Float[Tensor, "row vocab"], product: Float[Tensor, "row vocab"]
    ) -> None:
        """Overwrite `product` with the gradient for it, from the slopes at these probabilities."""
        bent = None if self._softcap is None else torch.tanh(product * (self._scale / self._softcap)).square_()
        logit_gradient(slope, student, out=product)
        if bent is not None:
            product.mul_(bent.neg_().add_(1.0))
        if self._scale != self._temperature:
            product.mul_(self._scale / self._temperature)
