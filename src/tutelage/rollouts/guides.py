"""What a teacher that reads along may do: pull the draws towards itself, or end a response."""

from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.math.behaviour import within_ball
from tutelage.math.divergences import reverse_kl
from tutelage.math.supports import top_entries, with_tail
from tutelage.rollouts.guided import Guidance


@final
class Blend:
    """Draws from the distribution closest to the teacher within a ball around the student."""

    def __init__(self, *, radius: float, temperature: float) -> None:
        """`radius` in nats, between distributions at `temperature`."""
        self._radius, self._temperature = radius, temperature

    def __call__(
        self, student: Float[Tensor, "row vocab"], teacher: Float[Tensor, "row vocab"], places: Int[Tensor, " row"]
    ) -> Guidance:
        """See `Guide`."""
        own, theirs = ((logits / self._temperature).log_softmax(-1) for logits in (student, teacher))
        # whoever draws divides by the temperature once more
        return Guidance(logits=self._temperature * within_ball(own, theirs, radius=self._radius))


@final
class AgreementStop:
    """Ends a response after so many windows in a row whose mean reverse KL lies below a threshold."""

    def __init__(
        self,
        num_responses: int,
        *,
        longest: int,
        window: int,
        entries: int,
        threshold: float | None,
        count: int | None,
        grace: int,
    ) -> None:
        """Watch the responses of one call; without a threshold or a count nothing is ended, and all windows are noted."""
        self._window, self._entries, self._grace = window, entries, grace
        self._threshold, self._count = (None, None) if threshold is None or count is None else (threshold, count)
        self._sums = torch.zeros(num_responses, longest + 1, dtype=torch.float64)  # of the first so many tokens
        self._time = torch.zeros(num_responses, dtype=torch.long)
        self._low = torch.zeros(num_responses, dtype=torch.long)
        self._ended = torch.full((num_responses,), -1, dtype=torch.long)  # the token with which a response was ended

    def __call__(
        self, student: Float[Tensor, "row vocab"], teacher: Float[Tensor, "row vocab"], places: Int[Tensor, " row"]
    ) -> Guidance:
        """See `Guide`."""
        return Guidance(
            logits=student, cut=self.note(self._divergence(student, teacher).cpu(), places.cpu()).to(student.device)
        )

    def note(self, disagreement: Float[Tensor, " row"], places: Int[Tensor, " row"]) -> Bool[Tensor, " row"]:
        """Take one more number per row; which rows end with this token."""
        time = self._time[places]
        self._sums[places, time + 1] = self._sums[places, time] + disagreement.double()
        self._time[places] = time + 1
        if self._threshold is None or self._count is None:
            return torch.zeros_like(places, dtype=torch.bool)
        start = (time + 1 - self._window).clamp(min=0)
        mean = (self._sums[places, time + 1] - self._sums[places, start]) / self._window
        low = (mean < self._threshold) & (time > self._grace)  # beyond the grace every window is full
        self._low[places] = torch.where(low, self._low[places] + 1, 0)
        ends = (self._low[places] >= self._count) & (self._ended[places] < 0)
        self._ended[places] = torch.where(ends, time, self._ended[places])
        return ends

    def kept(self, place: int, *, length: int) -> int:
        """Tokens that stay of a response with so many: those before the first low window, or all where it was not ended."""
        ended = int(self._ended[place])
        if self._count is None or not 0 <= ended < length:  # a response that ended by itself is seen a few times more
            return length
        return ended - self._count - self._window + 2

    def least(self, place: int, *, length: int) -> float | None:
        """The least window of a response that had so many tokens when it ended; None where it had none."""
        sums = self._sums[place, : length + 1]
        return float((sums[self._window :] - sums[: -self._window]).min() / self._window) if length >= self._window else None

    def _divergence(self, student: Float[Tensor, "row vocab"], teacher: Float[Tensor, "row vocab"]) -> Float[Tensor, " row"]:
        own, theirs = student.log_softmax(-1), teacher.log_softmax(-1)
        ids = top_entries(own, min(self._entries, own.shape[-1]))
        return reverse_kl(*(with_tail(side.gather(-1, ids), side, ids) for side in (own, theirs)))
