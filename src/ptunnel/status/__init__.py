"""The status address: what the running service shows, and to whom."""
