"""Hidden states as the support: the student's last hidden state against the teacher's."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tutelage.types import Capability


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenMatch:
    """Distance of what enters the two heads, position by position. Both models must have one width.

    `squared`: mean over the width of squared differences, in squared units of the hidden states. `cosine`: one minus the
    cosine, without a unit; on normalised states `width * squared = 2 cosine`. It is zero only where the states agree, up
    to a positive factor for `cosine`; it says nothing about the head, and the head gets no gradient.

    Reference: on-policy representation distillation (OPRD, card `oprd`), on the last layer.
    """

    kind: Literal["hidden_match"] = "hidden_match"
    distance: Literal["squared", "cosine"] = "squared"
    """Which distance."""
    normalised: bool = False
    """Bring both states to length one first; without effect on `cosine`."""

    @property
    def needs(self) -> frozenset[Capability]:
        """The teacher's hidden states."""
        return frozenset({"hidden"})

    def __call__(self, student: Float[Tensor, "row width"], teacher: Float[Tensor, "row width"]) -> Float[Tensor, " row"]:
        """The distance per row; gradients flow to the student's states."""
        if self.distance == "cosine":
            return 1.0 - cosine_similarity(student, teacher, dim=-1)
        if self.normalised:
            student, teacher = (torch.nn.functional.normalize(states, dim=-1) for states in (student, teacher))
        return (student - teacher).square().mean(dim=-1)
