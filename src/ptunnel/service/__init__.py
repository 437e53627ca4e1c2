"""From settings to a MultiService: ports, workers, signals, the end."""
