"""How tokens are drawn, whoever writes."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are drawn."""

    n: int = 1
    """Responses per prompt."""
    temperature: float = 1.0
    """Divides the sampler's logits; the loss has temperatures of its own. 0 takes the likeliest token."""
    top_p: float = 1.0
    """Smallest set of likeliest tokens with at least this mass. Below 1 the sampled distribution is not the student's."""
    top_k: int = 0
    """Likeliest tokens kept; 0 keeps all."""
    max_new_tokens: int = 256
    """Longest response in tokens."""

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_new_tokens < 1:
            raise ConfigError(f"Sampling needs n >= 1 and max_new_tokens >= 1, got {self.n!r} and {self.max_new_tokens!r}.")
        if self.temperature < 0.0 or not 0.0 < self.top_p <= 1.0 or self.top_k < 0:
            raise ConfigError(
                f"Sampling needs temperature >= 0, 0 < top_p <= 1 and top_k >= 0, got temperature {self.temperature!r}, "
                f"top_p {self.top_p!r}, top_k {self.top_k!r}."
            )


ResponseColumn = Literal["response", "solution"]
"""Column of the data set that holds a response: the last assistant turn of `messages`, or the worked solution."""
