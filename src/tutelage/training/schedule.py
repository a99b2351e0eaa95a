"""The learning rate as a pure function of the step, so that a resumed run cannot step it twice."""

from math import cos, pi

from tutelage.training.settings import OptimiserSettings


def learning_rate(settings: OptimiserSettings, *, step: int, num_steps: int) -> float:
    """Learning rate of an optimiser step.

    Args:
        settings: Peak, warm-up and decay.
        step: Optimiser steps already taken; the first step has 0.
        num_steps: Length of the run.

    Returns:
        `peak * (step + 1) / warmup_steps` during the warm-up, so that no step is wasted at rate 0; then the decay, which
        reaches `final_fraction * peak` at the last step.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    span = max(num_steps - 1 - settings.warmup_steps, 1)
    progress = min((step - settings.warmup_steps) / span, 1.0)
    match settings.decay:
        case "constant":
            factor = 1.0
        case "linear":
            factor = 1.0 - (1.0 - settings.final_fraction) * progress
        case "cosine":
            factor = settings.final_fraction + (1.0 - settings.final_fraction) * 0.5 * (1.0 + cos(pi * progress))
    return settings.learning_rate * factor
