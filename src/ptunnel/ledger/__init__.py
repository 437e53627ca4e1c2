"""One account of what happens: counters as it happens, frozen figures for those who look."""

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets, in seconds. A last bucket has all that is longer."""

MOST_SAID = 200
"""How many of the last lines of the log are kept."""
