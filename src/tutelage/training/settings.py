"""Settings of a run that do not belong to the method."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserSettings:
    """AdamW and its learning rate."""

    learning_rate: float = 1e-5
    """Peak. Typical: 1e-6 to 1e-5 for whole models, 1e-4 for LoRA, 1e-3 for models of under a million parameters."""
    warmup_steps: int = 20
    """Linear rise from 0. Without it a student first loses accuracy."""
    decay: Literal["constant", "linear", "cosine"] = "cosine"
    """Shape after the warm-up."""
    final_fraction: float = 0.1
    """Learning rate after the last step, as a fraction of the peak; without effect on `constant`."""
    weight_decay: float = 0.0
    """Decoupled decay of the weights, per step and unit of learning rate."""
    beta1: float = 0.9
    """Decay of the gradient's running mean."""
    beta2: float = 0.95
    """Decay of the running mean of its square."""
    epsilon: float = 1e-8
    """Added to the square root of that mean."""
    gradient_clip: float = 1.0
    """Bound on the gradient's global norm; 0 never clips."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0.0 or self.warmup_steps < 0 or self.gradient_clip < 0.0:
            raise ConfigError(
                "The optimiser needs learning_rate > 0, warmup_steps >= 0 and gradient_clip >= 0, got "
                f"{self.learning_rate!r}, {self.warmup_steps!r} and {self.gradient_clip!r}."
            )
        if not 0.0 <= self.final_fraction <= 1.0:
            raise ConfigError(f"The optimiser needs 0 <= final_fraction <= 1, got {self.final_fraction!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """How long, how large, how precise."""

    num_steps: int = 200
    """Optimiser steps."""
    prompts_per_step: int = 32
    """Prompts drawn for one optimiser step; the recipe's `n` responses are written for each."""
    microbatch_tokens: int = 16384
    """Bound on padded tokens (prompt and response) in one forward; the result does not depend on it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the student's forward; the weights stay float32. `auto`: bfloat16 on a GPU, float32 on a CPU."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    head_precision: Literal["auto", "bfloat16"] = "auto"
    """Type of the head's products. `auto`: as `precision`, with exact logits. `bfloat16`: also on a CPU, where they then come
    out rounded, relative to each row's own token; about twice as fast there where the processor knows the type."""
    head_compile: bool = False
    """Fuse the element-wise part of divergences by `torch.compile`: slow to start, pays for skew KLs and their like."""
    head_chunk_mib: int = 320
    """Memory for one chunk of logits and what is derived from them, in MiB."""

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.prompts_per_step < 1 or self.microbatch_tokens < 1 or self.head_chunk_mib < 1:
            raise ConfigError(
                "Training needs num_steps, prompts_per_step, microbatch_tokens and head_chunk_mib of at least 1, got "
                f"{self.num_steps!r}, {self.prompts_per_step!r}, {self.microbatch_tokens!r} and {self.head_chunk_mib!r}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AsynchronousSettings:
    """Whether writing, scoring and training work at the same time."""

    staleness: int = 0
    """Optimiser steps by which the student may be ahead of whoever wrote a response. 0 takes turns; `s` keeps at most `s + 1`
    steps on their way, each with a copy of the trained weights until it is written."""

    def __post_init__(self) -> None:
        if self.staleness < 0:
            raise ConfigError(f"asynchronous.staleness must be at least 0 (0 takes turns), got {self.staleness!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointSettings:
    """When the state is saved."""

    every: int = 100
    """Optimiser steps between checkpoints; 0 saves only the last one."""
    keep: int = 2
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        if self.every < 0 or self.keep < 1:
            raise ConfigError(f"Checkpoints need every >= 0 and keep >= 1, got {self.every!r} and {self.keep!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggingSettings:
    """What is written down besides `metrics.jsonl`."""

    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Further places that metrics go to; each needs its package."""
    statistics_every: int = 1
    """Steps between full per-token statistics (both divergences, entropies)."""
    rollouts_every: int = 50
    """Steps between tables of rollouts with per-token records; 0 writes only the last step's."""
    show_rollouts: int = 0
    """Rollouts printed to the terminal with each table."""

    def __post_init__(self) -> None:
        if self.statistics_every < 1 or self.rollouts_every < 0 or self.show_rollouts < 0:
            raise ConfigError(
                "Logging needs statistics_every >= 1, rollouts_every >= 0 and show_rollouts >= 0, got "
                f"{self.statistics_every!r}, {self.rollouts_every!r} and {self.show_rollouts!r}."
            )
