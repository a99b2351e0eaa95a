"""Where the student's responses are drawn: the choices, as values."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tutelage.errors import ConfigError
from tutelage.serving.settings import Patience


@dataclass(frozen=True, kw_only=True, slots=True)
class InProcess:
    """By the student that is trained, in this process."""

    kind: Literal["in_process"] = "in_process"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedStudent:
    """By a copy of the student behind `vllm serve`, which gets the student's weights whenever they have moved.

    After every exchange the log-probs of a few tokens are compared with the trainer's own.
    """

    kind: Literal["served"] = "served"
    url: str = ""
    """Address of the server, such as `http://127.0.0.1:8001`. It must be one of your own, started with
    `VLLM_SERVER_DEV_MODE=1` and the student's folder."""
    name: str = ""
    """The model's name on the server; empty takes the only one."""
    transfer: Literal["folder", "nccl"] = "folder"
    """How the weights get there: saved to a folder that the server reads, or broadcast from GPU to GPU by the weight-transfer
    engine that the server was started with. The second way has not been run on a GPU."""
    folder: str = ""
    """Where the weights are handed over; the server must read it under the same path. Empty takes a temporary folder of this
    machine."""
    tolerance_nats: float = 0.05
    """Mean distance per token between the server's log-probs and the trainer's that is put down to rounding. A larger one ends
    the run."""
    patience: Patience = Patience()
    """Time limits and retries."""
    key_variable: str | None = None
    """Environment variable that holds the server's key; none sends no key."""

    def __post_init__(self) -> None:
        if self.tolerance_nats <= 0.0:
            raise ConfigError(f"ServedStudent needs tolerance_nats > 0, got {self.tolerance_nats!r}.")
        if self.folder and self.transfer != "folder":
            raise ConfigError(
                f"ServedStudent.folder is {self.folder!r}, and weights go by {self.transfer!r}, which uses none. Leave one out."
            )


AnySampler = Annotated[InProcess | ServedStudent, Field(discriminator="kind")]
