"""All tokens of one optimiser step that an objective may act on, as flat rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tutelage.types.rollouts import Author, Rollout, Verdict

Gather = Callable[[Float[Tensor, " local"]], Float[Tensor, " all"]]
"""Puts a vector of every process behind one another; lengths may differ. The identity where there is one process.

Every process calls it equally often and in the same order, also where it has nothing to give.
"""

_COLUMNS = ("rollout", "position", "token", "author", "behaviour_log_probs", "noise")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepBatch:
    """One row per response token that somebody chose; prompts, tool output and padding have no row.

    Rows lie in the order of the rollouts and, within one, of time. Everything that depends on the whole step (counts,
    noise) is fixed here, so that splitting the step into micro-batches cannot change it.
    """

    rollouts: tuple[Rollout, ...]
    verdicts: tuple[Verdict, ...]
    rollout: Int[Tensor, " row"]
    """Index into `rollouts`."""
    position: Int[Tensor, " row"]
    """Index of the token in its response."""
    token: Int[Tensor, " row"]
    author: Int[Tensor, " row"]
    behaviour_log_probs: Float[Tensor, " row"]
    """In nats; NaN where the student did not write the token."""
    noise: Float[Tensor, " row"]
    """Uniform in [0, 1), drawn once per token: what random token weights are decided by."""
    taught: Mapping[str, Bool[Tensor, " row"]] = field(default_factory=dict[str, Tensor])
    """By teacher, the rows that it could teach; a teacher that is missing here taught all of them."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.token.shape[0]

    def rows_by(self, authors: Sequence[Author]) -> Bool[Tensor, " row"]:
        """True where one of `authors` chose the token."""
        wanted = torch.tensor([int(author) for author in authors], device=self.author.device)
        return torch.isin(self.author, wanted)

    def taught_by(self, teacher: str) -> Bool[Tensor, " row"]:
        """True where a teacher could teach; it cannot where its context is missing."""
        return self.taught.get(teacher, torch.ones_like(self.token, dtype=torch.bool))

    def rows_of(self, rollouts: Sequence[int]) -> Int[Tensor, " chosen"]:
        """Indices of the rows of some rollouts, in the order of the rows."""
        wanted = torch.tensor(list(rollouts), dtype=torch.long, device=self.rollout.device)
        return torch.isin(self.rollout, wanted).nonzero().squeeze(-1)

    def select(self, rows: Int[Tensor, " chosen"] | slice) -> "StepBatch":
        """Some of the rows; `rollout` still indexes the same `rollouts`."""
        taught = {name: mask[rows] for name, mask in self.taught.items()}
        return replace(self, taught=taught, **{name: getattr(self, name)[rows] for name in _COLUMNS})

    def to(self, device: torch.device) -> "StepBatch":
        """The same rows on another device; the rollouts stay where they are."""
        taught = {name: mask.to(device) for name, mask in self.taught.items()}
        return replace(self, taught=taught, **{name: getattr(self, name).to(device) for name in _COLUMNS})

    @staticmethod
    def of(
        rollouts: Sequence[Rollout], verdicts: Sequence[Verdict] = (), *, seed: int = 0, step: int = 0, first: int = 0
    ) -> "StepBatch":
        """Flatten rollouts into rows.

        Args:
            rollouts: What was written in this step.
            verdicts: One per rollout, or none at all.
            seed: Seed of the run.
            step: Optimiser step; the noise of a token depends on seed, step, place of the rollout and position only.
            first: Place of the first of these rollouts among those of all processes.
        """
        kept = [rollout.authors != Author.NONE for rollout in rollouts]
        times = [mask.nonzero().squeeze(-1) for mask in kept]
        return StepBatch(
            rollouts=tuple(rollouts),
            verdicts=tuple(verdicts) or tuple(Verdict() for _ in rollouts),
            rollout=torch.cat([torch.full_like(time, index) for index, time in enumerate(times)]),
            position=torch.cat(times),
            token=torch.cat([rollout.response_ids[time] for rollout, time in zip(rollouts, times, strict=True)]),
            author=torch.cat([rollout.authors[time] for rollout, time in zip(rollouts, times, strict=True)]).long(),
            behaviour_log_probs=torch.cat(
                [rollout.behaviour_log_probs[time] for rollout, time in zip(rollouts, times, strict=True)]
            ),
            noise=torch.cat(
                [
                    _noise(len(rollout.response_ids), seed, step, first + index)[time.cpu()].to(time.device)
                    for index, (rollout, time) in enumerate(zip(rollouts, times, strict=True))
                ]
            ),
        )


def _noise(length: int, seed: int, step: int, index: int) -> Float[Tensor, " time"]:
    digest = blake2b(f"{seed} {step} {index}".encode(), digest_size=4).digest()  # nearby numbers get unrelated streams
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    return torch.rand(length, generator=generator)
