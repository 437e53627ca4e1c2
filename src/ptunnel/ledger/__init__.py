"""One account of what happens: counters as it happens, frozen figures for those who look."""
