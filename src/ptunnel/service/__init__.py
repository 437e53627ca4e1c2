"""From settings to a MultiService: ports, workers, signals, and the end of the process."""
