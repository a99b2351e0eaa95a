"""How a student is evaluated."""

from dataclasses import dataclass

from tutelage.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """What is written and measured, on how many prompts, how often."""

    num_prompts: int = 256
    """Prompts used, the first of the data; 0 uses all."""
    greedy: bool = True
    """Also write the likeliest response to each prompt, for the greedy accuracy."""
    samples: int = 1
    """Responses sampled per prompt, for avg@k, pass@k and everything that describes the student's own text; 0 samples none."""
    k: int | None = None
    """Of pass@k: at most `samples`, and well below it for a narrow interval. None takes `samples`."""
    temperature: float = 1.0
    """Of the sampled responses."""
    top_p: float = 1.0
    """Of the sampled responses."""
    max_new_tokens: int | None = None
    """Longest response in tokens; None takes the recipe's."""
    every: int = 50
    """Optimiser steps between evaluations during training; 0 evaluates only before and after."""
    written: int = 32
    """Prompts whose response is written down token by token, for a look at two runs side by side; 0 writes none."""
    at_start: bool = True
    """Evaluate before the first step: without it there is nothing to compare with."""

    def __post_init__(self) -> None:
        if self.samples == 0 and not self.greedy:
            raise ConfigError("An evaluation with samples = 0 and without greedy writes nothing. Set one of them.")
        if min(self.num_prompts, self.samples, self.every, self.written) < 0 or (
            self.max_new_tokens is not None and self.max_new_tokens < 1
        ):
            raise ConfigError(
                "An evaluation needs num_prompts, samples, every and written of at least 0 and max_new_tokens of at least 1, "
                f"got {self.num_prompts!r}, {self.samples!r}, {self.every!r}, {self.written!r} and {self.max_new_tokens!r}."
            )
        if self.k is not None and not 1 <= self.k <= self.samples:
            raise ConfigError(
                f"An evaluation needs 1 <= k <= samples, got k {self.k!r} and samples {self.samples!r}: pass@k cannot be "
                "estimated from fewer than k responses."
            )
        if self.samples > 0 and not (self.temperature > 0.0 and 0.0 < self.top_p <= 1.0):
            raise ConfigError(
                f"Sampled responses need temperature > 0 and 0 < top_p <= 1, got {self.temperature!r} and {self.top_p!r}. "
                "At temperature 0 all are the greedy one: set samples = 0 and greedy for that."
            )

    def due(self, step: int, *, num_steps: int) -> bool:
        """Whether a run of `num_steps` is evaluated after `step` optimiser steps."""
        if step == 0:
            return self.at_start
        return step == num_steps or (self.every > 0 and step % self.every == 0)
