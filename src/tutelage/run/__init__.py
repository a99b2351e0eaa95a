"""From a configuration to a run: the only place that builds objects from values."""
