"""Everything that decides a run, as one value."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tutelage.data import DataSource
from tutelage.evaluation import EvaluationSettings
from tutelage.models import ModelSource
from tutelage.models.chat import Wrap
from tutelage.recipes import Recipe
from tutelage.rollouts.sampler_parts import AnySampler, InProcess
from tutelage.scores import ScoreCache
from tutelage.training.settings import (
    AsynchronousSettings,
    CheckpointSettings,
    LoggingSettings,
    OptimiserSettings,
    TrainingSettings,
)
from tutelage.verifiers import AnyVerifier, NoVerifier


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A run: the method, the student, the data, and how long, how large, where to."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    recipe: Recipe
    """The method; it also says who teaches."""
    student: ModelSource = ModelSource()
    """The model that is trained."""
    data: DataSource = DataSource(path="")
    """Prompts to train on."""
    evaluation_data: DataSource | None = None
    """Held-out prompts; without them nothing is evaluated."""
    verifier: AnyVerifier = NoVerifier()
    """Who says whether a response is right."""
    scores: ScoreCache | None = None
    """Folder in which the teachers' scores are kept and looked up; without one every response is scored whenever it comes."""
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    """What is measured on the held-out prompts, and how often."""
    sampler: AnySampler = InProcess()
    """Where the student's responses are drawn."""
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    """AdamW and its learning rate."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """How long, how large, how precise."""
    asynchronous: AsynchronousSettings = field(default_factory=AsynchronousSettings)
    """Whether writing, scoring and training work at the same time."""
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    """When the state is saved."""
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    """What is written down besides the metrics."""
    wrap_prompts: Wrap = "auto"
    """`always` turns a plain-text prompt into a user turn of a conversation; `auto` and `never` leave it as it is."""
    output: str = "runs/latest"
    """Folder of the run; it must not exist yet, or be empty."""
    seed: int = 0
    """Decides all draws: prompts, rollouts, token weights, intervals."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where PyTorch sees one."""
