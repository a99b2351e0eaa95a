"""Who teaches and what only the teacher reads: the choices, as values. `teachers.build` carries them out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tutelage.errors import ConfigError, DataError, nearest
from tutelage.models.source import DType
from tutelage.serving.settings import Patience
from tutelage.teachers.context_parts import Context, NoContext, ReferenceSolution
from tutelage.types import Capability, Example, FullSignal, RoutedSignal, SampledSignal, TopKSignal


@dataclass(frozen=True, kw_only=True, slots=True)
class Frozen:
    """The teacher stays what the student was before the first step."""

    kind: Literal["frozen"] = "frozen"


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """The teacher is the student as it is now, without gradient."""

    kind: Literal["live"] = "live"


@dataclass(frozen=True, kw_only=True, slots=True)
class Average:
    """An exponential moving average of the student: after each step `teacher += rate * (student - teacher)`."""

    kind: Literal["average"] = "average"
    rate: float = 0.001
    """Share of the student in each update, in [0, 1]: 0 is frozen, 1 is live."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ConfigError(f"Average needs 0 <= rate <= 1 (0 = frozen, 1 = live), got {self.rate!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Periodic:
    """The teacher is copied from the student every so many steps and stays as it is between copies."""

    kind: Literal["periodic"] = "periodic"
    every: int = 10
    """Optimiser steps between copies."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"Periodic needs every >= 1, got {self.every!r}.")


TeacherUpdate = Annotated[Frozen | Live | Average | Periodic, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTeacher:
    """Another model, loaded in process and frozen."""

    kind: Literal["model"] = "model"
    model: str = ""
    """Folder or hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: DType = "auto"
    """Type of the weights; `auto` is bfloat16 on a GPU and the stored type on a CPU."""
    trust_remote_code: bool = False
    """Runs Python code that lies beside the weights. Only for sources that you trust."""
    template_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Passed to the teacher's chat template, for example `enable_thinking`."""
    context: Context = NoContext()
    """What the teacher reads besides the prompt."""
    remember: bool = False
    """Keep the log-probability of every token that was scored: a response that comes again costs no forward. Nothing else of
    the teacher is left then. It is kept in memory, or in the run's score cache where it has one."""

    @property
    def provides(self) -> frozenset[Capability]:
        """Everything that one model's scores can give, or what is left of them when they are remembered."""
        return SampledSignal.provides if self.remember else FullSignal.provides


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedTeacher:
    """Another model behind `vllm serve`: its weights never lie in this process.

    It gives the log-probability of every token and of its own likeliest entries. What needs a whole distribution is refused
    before the first step.
    """

    kind: Literal["served"] = "served"
    url: str = ""
    """Address of the server, such as `http://127.0.0.1:8000`."""
    model: str = ""
    """Folder or hub id of the served model; only its tokenizer and configuration are read."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    name: str = ""
    """The model's name on the server; empty takes the only one."""
    k: int = 0
    """Likeliest entries that are asked for at each token; 0 asks for the token's own log-probability alone. A server gives 20
    unless it is started with `--max-logprobs`."""
    context: Context = NoContext()
    """What the teacher reads besides the prompt."""
    template_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Passed to the teacher's chat template, for example `enable_thinking`."""
    tolerance_nats: float = 0.05
    """Mean distance per token between two answers about the same tokens that is put down to rounding. Replicas that differ by
    more, and a server whose weights change, end the run."""
    patience: Patience = Patience()
    """Time limits and retries."""
    key_variable: str | None = None
    """Environment variable that holds the server's key; none sends no key."""

    def __post_init__(self) -> None:
        if self.k < 0 or self.tolerance_nats <= 0.0:
            raise ConfigError(f"ServedTeacher needs k >= 0 and tolerance_nats > 0, got {self.k!r} and {self.tolerance_nats!r}.")

    @property
    def provides(self) -> frozenset[Capability]:
        """The token's own log-probability and, with `k`, the likeliest entries."""
        return TopKSignal.provides if self.k else SampledSignal.provides


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTeacher:
    """The student's own weights, under a context that the student does not see."""

    kind: Literal["self"] = "self"
    update: TeacherUpdate = Frozen()
    """How the teacher moves with the student."""
    context: Context = ReferenceSolution()
    """What the teacher reads besides the prompt."""
    template_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Passed to the chat template on the teacher's side."""

    @property
    def provides(self) -> frozenset[Capability]:
        """Everything that one model's scores can give."""
        return frozenset({"full", "top_k", "sampled", "hidden"})


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutedTeacher:
    """Several models, each of which teaches the examples that name it in their `teacher_id`.

    Reference: MOPD, arXiv:2601.02780 (experts by the domain of the prompt).
    """

    kind: Literal["routed"] = "routed"
    experts: Mapping[str, Annotated[ModelTeacher | ServedTeacher, Field(discriminator="kind")]]
    """By the name that examples use. All of them in this process, or all of them served and asked for as many entries."""
    default: str | None = None
    """Who teaches an example that names nobody or somebody else; without one it is refused."""

    context: ClassVar[NoContext] = NoContext()
    template_options: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        if not self.experts:
            raise ConfigError("RoutedTeacher needs at least one expert: name them with --recipe.teacher.experts.")
        served = {name: expert.k for name, expert in self.experts.items() if isinstance(expert, ServedTeacher)}
        if served and (len(served) < len(self.experts) or len(set(served.values())) > 1):
            raise ConfigError(
                f"RoutedTeacher has served experts ({', '.join(f'{name} with k = {k}' for name, k in served.items())}) among "
                f"{', '.join(self.experts)}. What they say is laid side by side, so serve all of them and ask each for the "
                "same k, or load all of them in process."
            )
        if remembering := [name for name, expert in self.models.items() if expert.remember]:
            raise ConfigError(
                f"RoutedTeacher has experts that remember their scores ({', '.join(remembering)}), and experts give whole "
                "distributions. Leave remember out."
            )
        if self.default is not None and self.default not in self.experts:
            raise ConfigError(
                f"RoutedTeacher's default is {self.default!r}{nearest(self.default, self.experts)}, and its experts are "
                f"{', '.join(self.experts)}."
            )

    @property
    def provides(self) -> frozenset[Capability]:
        """Whole distributions, or what servers give; hidden states of several models have nothing in common."""
        expert = next(iter(self.experts.values()))
        return expert.provides if isinstance(expert, ServedTeacher) else RoutedSignal.provides

    @property
    def models(self) -> Mapping[str, ModelTeacher]:
        """The experts in this process."""
        return {name: expert for name, expert in self.experts.items() if isinstance(expert, ModelTeacher)}

    @property
    def served(self) -> Mapping[str, ServedTeacher]:
        """The experts behind servers."""
        return {name: expert for name, expert in self.experts.items() if isinstance(expert, ServedTeacher)}

    def expert_of(self, example: Example) -> str:
        """Who teaches an example.

        Raises:
            DataError: It names nobody among the experts, and there is no default.
        """
        if example.teacher_id is not None and example.teacher_id in self.experts:
            return example.teacher_id
        if self.default is not None:
            return self.default
        raise DataError(
            f"Example {example.id!r} names the teacher {example.teacher_id!r} in its column `teacher_id`, and the experts are "
            f"{', '.join(self.experts)}. Mend the column, or give a default: --recipe.teacher.default."
        )


AnyTeacher = ModelTeacher | ServedTeacher | SelfTeacher | RoutedTeacher
