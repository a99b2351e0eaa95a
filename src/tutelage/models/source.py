"""Where a model comes from and how it is loaded: the choices, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tutelage.errors import ConfigError

DType = Literal["auto", "float32", "bfloat16", "float16"]
"""`auto`: float32 for a student, whose forward may still run in bfloat16; for a teacher bfloat16 on a GPU and the stored
type on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """Low-rank adapters beside frozen weights, through peft."""

    rank: int = 64
    """Columns of each adapter's inner matrix."""
    alpha: int = 128
    """The adapter's output is multiplied by `alpha / rank`."""
    dropout: float = 0.0
    """Share of the adapter's inputs that are dropped in training, in [0, 1)."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Names of the layers that get an adapter, or all linear ones but the head."""

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"Lora needs rank >= 1 and 0 <= dropout < 1, got {self.rank!r} and {self.dropout!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSource:
    """A causal language model in Hugging Face format."""

    path: str = ""
    """Folder or hub id."""
    revision: str | None = None
    """Commit, branch or tag on the hub."""
    dtype: DType = "auto"
    """Type of the weights. `auto`: float32 for a student; for a teacher bfloat16 on a GPU and the stored type on a CPU."""
    attention: str | None = None
    """Attention that transformers computes with, for example `eager`, `sdpa` or `flash_attention_2`; None takes the fastest
    exact one that the model's family supports without further packages."""
    trust_remote_code: bool = False
    """Runs Python code that lies beside the weights. Only for sources that you trust."""
    lora: Lora | None = None
    """Train adapters instead of the weights."""
    template_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Passed to the chat template, for example `enable_thinking`."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end a response; empty takes the model's own. The first one ends a data set's responses."""
