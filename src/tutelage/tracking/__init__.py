"""What a run leaves behind, and how it is read: metrics, run folder, progress, tables of rollouts, report. Needs no torch."""

from tutelage.tracking import events
from tutelage.tracking.events import Event, Tracker
from tutelage.tracking.registry import METRICS, Metric
from tutelage.tracking.run_folder import RunFolder
from tutelage.tracking.sinks import Sink, open_sinks

__all__ = ["METRICS", "Event", "Metric", "RunFolder", "Sink", "Tracker", "events", "open_sinks"]
