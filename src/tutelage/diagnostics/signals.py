"""Means of per-row statistics over a step."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from tutelage.types import Author, StepBatch

_MEANS = (
    "reverse_kl_nats",
    "forward_kl_nats",
    "forward_kl_lower_nats",
    "forward_kl_error_nats",
    "student_entropy_nats",
    "teacher_entropy_nats",
)


def signal_metrics(batch: StepBatch, statistics: Mapping[str, Float[Tensor, " row"]]) -> dict[str, float]:
    """Means over the step's tokens, in nats; a statistic that no row has is left out.

    Args:
        batch: The rows.
        statistics: Per-row values, NaN where a teacher gave too little.

    Returns:
        `signal/...` metrics. `sampler_gap_nats` is the mean distance between the log-probabilities of the trainer and of the
        sampler on the student's own tokens: compare it with the divergences, below it they are noise.
    """
    found: dict[str, float] = {}
    for name in _MEANS:
        if name in statistics:
            found[f"signal/{name}"] = float(statistics[name].nanmean())
    if "student_log_prob" in statistics:
        own = statistics["student_log_prob"]
        found["signal/log_ratio_nats"] = float((statistics["teacher_log_prob"] - own).nanmean())
        mask = batch.rows_by([Author.STUDENT])
        found["signal/sampler_gap_nats"] = float((own - batch.behaviour_log_probs)[mask].abs().nanmean())
    return {name: value for name, value in found.items() if value == value}
