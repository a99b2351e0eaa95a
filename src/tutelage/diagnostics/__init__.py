"""Measurements on a step: what is logged, computed from rollouts and per-row statistics."""

from tutelage.diagnostics.rollouts import repetition_fraction, rollout_metrics, staleness_metrics
from tutelage.diagnostics.signals import signal_metrics

__all__ = ["repetition_fraction", "rollout_metrics", "signal_metrics", "staleness_metrics"]
