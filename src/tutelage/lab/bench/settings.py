"""What a bench measures: the choices, as values."""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

from tutelage.errors import ConfigError, nearest

DType = Literal["float32", "bfloat16"]
DTYPES: tuple[DType, ...] = ("float32", "bfloat16")
SIGNALS = (
    "reverse_kl",
    "forward_kl",
    "jensen_shannon",
    "three_terms",
    "score_function",
    "score_function_with_baseline",
    "reverse_kl_top_64",
    "reverse_kl_with_statistics",
)
"""What the head can be asked for; `three_terms` is the sum of a reverse KL, a forward KL and a score function."""
LIKELIEST = {"reverse_kl_top_64": 64, "score_function_with_baseline": 100}
"""Those that look at so many likeliest entries."""
PEER_BETAS = {"forward_kl": 0.0, "jensen_shannon": 0.5, "reverse_kl": 1.0}
"""Those that the peer's kernel has too, by its setting."""
GROWTH_ROWS = (512, 2048, 16_384)
"""Rows at which growth is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadBench:
    """The loss and its gradients from hidden states, without any model around them."""

    vocab: int = 151_936
    """Rows of both heads."""
    rows: int = 512
    """Tokens of one step."""
    width: int = 512
    """Of the student's hidden states."""
    teacher_width: int = 1024
    """Of the teacher's hidden states."""
    dtype: DType = "float32"
    """Of hidden states and weights, on both sides."""
    signals: tuple[str, ...] = ("reverse_kl", "jensen_shannon", "three_terms")
    """What is minimised, one after another."""
    pairs: int = 5
    """Counted repetitions of each side; one more before them is not."""
    chunk_mib: int = 320
    """Our budget for logits, in MiB."""
    seed: int = 0
    """Of the inputs."""

    def __post_init__(self) -> None:
        _require_positive(
            vocab=self.vocab,
            rows=self.rows,
            width=self.width,
            teacher_width=self.teacher_width,
            pairs=self.pairs,
            chunk_mib=self.chunk_mib,
        )
        for name in self.signals:
            if name not in SIGNALS:
                raise ConfigError(f"The head has no signal {name!r}{nearest(name, SIGNALS)}. Choose from {', '.join(SIGNALS)}.")
            if self.vocab < LIKELIEST.get(name, 0):
                raise ConfigError(
                    f"{name!r} looks at the {LIKELIEST[name]} likeliest of {self.vocab} entries: use --vocab {LIKELIEST[name]} "
                    "or more, or another signal."
                )
        if not self.signals or len(set(self.signals)) < len(self.signals):
            raise ConfigError(f"A bench of the head needs different signals, at least one; got {self.signals!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepBench:
    """Whole training steps: the student writes, the teacher scores, the student is updated."""

    vocab: int = 151_936
    """Ids of the tokenizer that both models share."""
    student: tuple[int, int] = (256, 4)
    """Width and layers."""
    teacher: tuple[int, int] = (512, 6)
    """Width and layers."""
    batch: int = 8
    """Responses of one micro-batch of the peer."""
    accumulation: int = 1
    """Micro-batches of one optimiser step of the peer; a step has `batch * accumulation` responses on both sides."""
    prompt: int = 64
    """Tokens of every prompt."""
    new: int = 128
    """Mean tokens of a response; the tokens of every one where `ragged` is 0."""
    ragged: float = 0.0
    """Standard deviation of the logarithm of a response's length."""
    dtype: DType = "float32"
    """`bfloat16` switches on each side's own mixed precision; the weights stay float32."""
    microbatch_tokens: int = 16384
    """Our bound on padded tokens in one forward; the default of training."""
    statistics: bool = False
    """Our per-token statistics in every step, which the peer has none of but the student's entropy."""
    chunk_mib: int = 320
    """Our budget for logits, in MiB."""
    pairs: int = 5
    """Counted steps of each side; one more before them is not."""
    seed: int = 0
    """Of models, prompts, lengths and draws."""

    def __post_init__(self) -> None:
        _require_positive(
            batch=self.batch,
            accumulation=self.accumulation,
            prompt=self.prompt,
            new=self.new,
            pairs=self.pairs,
            chunk_mib=self.chunk_mib,
        )
        if self.vocab < 16:
            raise ConfigError(f"A tokenizer of the bench needs a vocabulary of at least 16, got {self.vocab!r}.")
        if not 0.0 <= self.ragged <= 3.0 or self.microbatch_tokens < 1:
            raise ConfigError(
                f"A bench of steps needs 0 <= ragged <= 3 and microbatch_tokens >= 1, got {self.ragged!r} and "
                f"{self.microbatch_tokens!r}."
            )
        for who, (width, layers) in (("student", self.student), ("teacher", self.teacher)):
            if width < 2 or width % 2 or (width > 64 and width % 64) or layers < 1:
                raise ConfigError(
                    f"The {who} cannot be {width} wide with {layers} layers: the width must be even, above 64 a multiple of "
                    f"64 (the size of an attention head), and there must be a layer. Example: --{who} 256x4."
                )

    @property
    def responses(self) -> int:
        """Responses of one optimiser step."""
        return self.batch * self.accumulation

    def lengths(self) -> tuple[int, ...]:
        """Tokens of a step's responses: evenly spaced quantiles of a log-normal distribution, scaled to the mean `new`.

        Every step has the same ones, in an order of its own, so that steps cost alike and repetitions can be compared.
        """
        count = self.responses
        places = [NormalDist().inv_cdf((index + 0.5) / count) for index in range(count)]
        raw = [math.exp(self.ragged * place) for place in places]
        scale = self.new * count / sum(raw)
        return tuple(max(1, round(scale * length)) for length in raw)


def as_json(settings: HeadBench | StepBench) -> dict[str, Any]:
    """Settings as a JSON-able value."""
    return asdict(settings)


def of_json(kind: str, tree: dict[str, Any]) -> HeadBench | StepBench:
    """Settings from what `as_json` gave, after a way through JSON."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()}
    return HeadBench(**values) if kind == "head" else StepBench(**values)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"A bench needs {name} >= 1, got {value!r} (--{name.replace('_', '-')}).")
