"""From a configuration to objects: the only place that builds."""

from tutelage.run.api import Result, config_of, evaluate, resume, train
from tutelage.run.config import RunConfig

__all__ = ["Result", "RunConfig", "config_of", "evaluate", "resume", "train"]
