"""From a configuration to objects: the only place that builds."""
