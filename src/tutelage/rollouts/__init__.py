"""Who writes the responses, and how tokens are drawn."""

from tutelage.rollouts.guided import LockstepSampler
from tutelage.rollouts.sample import Aids, Prompt, Reply, RolloutWriter, Text, environment_of, given_responses
from tutelage.rollouts.sampler import CachedSampler, Sample, Sampler

__all__ = [
    "Aids",
    "CachedSampler",
    "LockstepSampler",
    "Prompt",
    "Reply",
    "RolloutWriter",
    "Sample",
    "Sampler",
    "Text",
    "environment_of",
    "given_responses",
]
